#!/bin/sh
# Inspects what an industrial camera (GenICam: GigE Vision, USB3 Vision) sees, by Aravis.
#
#     sh pipelines/genicam.sh MODEL [CAMERA [mono|bayer [EXPOSURE_US]]]
#
# MODEL        made by: vadlite fit --images GOOD_DIR --out part.vadlite
# CAMERA       its name as `arv-tool-0.8` lists it; default "": the first one
# mono|bayer   what the sensor delivers, default mono; bayer needs bayer2rgb (GStreamer bad plugins)
# EXPOSURE_US  exposure in microseconds; default: the camera's own setting
#
# Needs aravissrc (Debian: gstreamer1.0-plugins-aravis or Aravis built with its GStreamer plugin).
set -eu
. "$(dirname "$0")/common.sh"
arguments 1 4 "$@"

use_model "$1"
camera=${2:-}
exposure=${4:-}
pixel=${3:-mono}
case $pixel in
mono | bayer) ;;
*) die "the third argument is mono or bayer, not '$pixel'" ;;
esac
if [ -n "${VADLITE_SOURCE:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $VADLITE_SOURCE ! capsfilter caps=video/x-raw,format=GRAY8
else
    if [ -z "${VADLITE_PRINT:-}" ]; then
        need aravissrc "Install Aravis with its GStreamer plugin (Debian: gstreamer1.0-plugins-aravis or gir1.2-aravis-0.8)."
        [ "$pixel" = mono ] || need bayer2rgb "Install GStreamer's bad plugins (gstreamer1.0-plugins-bad)."
    fi
    set -- aravissrc ${camera:+"camera-name=$camera"} ${exposure:+exposure-auto=off "exposure=$exposure"}
    case $pixel in
    mono) set -- "$@" ! video/x-raw,format=GRAY8 ;;
    bayer) set -- "$@" ! video/x-bayer ! bayer2rgb ;;
    esac
fi
inspect "$@" ! queue leaky=downstream max-size-buffers=2

#!/bin/sh
# Inspects what a Raspberry Pi's camera module sees (libcamera).
#
#     sh pipelines/raspberry-pi.sh MODEL [CAMERA [WIDTHxHEIGHT [FRAMES_PER_SECOND]]]
#
# MODEL              made by: vadlite fit --images GOOD_DIR --out part.vadlite
# CAMERA             its name as `cam --list` shows it; default "": the first one
# WIDTHxHEIGHT       default 1280x720
# FRAMES_PER_SECOND  default 15
#
# Needs libcamerasrc (Debian, Raspberry Pi OS: gstreamer1.0-libcamera).
set -eu
. "$(dirname "$0")/common.sh"
arguments 1 4 "$@"

use_model "$1"
camera=${2:-}
size=${3:-1280x720}
# Without the colorimetry some versions of libcamerasrc do not find a common format.
caps="video/x-raw,format=NV12,width=${size%x*},height=${size#*x},framerate=${4:-15}/1,colorimetry=bt709"
if [ -n "${VADLITE_SOURCE:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $VADLITE_SOURCE
else
    [ -n "${VADLITE_PRINT:-}" ] || need libcamerasrc "Install gstreamer1.0-libcamera."
    set -- libcamerasrc ${camera:+"camera-name=$camera"}
fi
inspect "$@" ! capsfilter "caps=$caps" ! queue leaky=downstream max-size-buffers=2

#!/bin/sh
# Inspects a video file; shows it, or writes it with the heatmaps into another file.
#
#     sh pipelines/video-file.sh MODEL VIDEO [OUT.mkv]
#
# MODEL    made by: vadlite fit --images GOOD_DIR --out part.vadlite
# OUT.mkv  write the annotated video here (VP8 in Matroska), as fast as the machine can, instead of showing it
#
# Needs a decoder for the file: for H.264 or H.265 gstreamer1.0-libav and gstreamer1.0-plugins-bad (./setup --codecs).
set -eu
. "$(dirname "$0")/common.sh"
arguments 2 3 "$@"

use_model "$1"
out=${3:-}
if [ -n "$out" ]; then
    need vp8enc "Install GStreamer's good plugins (gstreamer1.0-plugins-good)."
    # Read by inspect.
    # shellcheck disable=SC2034
    sink="queue ! videoconvert ! vp8enc deadline=1 cpu-used=4 target-bitrate=2000000 threads=2 ! matroskamux" sink_file=$out
fi
if [ -n "${VADLITE_SOURCE:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $VADLITE_SOURCE
else
    [ -f "$2" ] || die "there is no video file $2"
    set -- filesrc "location=$2" ! decodebin
fi
inspect "$@"

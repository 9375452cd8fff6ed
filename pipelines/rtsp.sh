#!/bin/sh
# Inspects the stream of a network camera (RTSP).
#
#     sh pipelines/rtsp.sh MODEL rtsp://USER:PASSWORD@CAMERA/PATH [LATENCY_MS]
#
# MODEL       made by: vadlite fit --images GOOD_DIR --out part.vadlite
# LATENCY_MS  jitter buffer, default 200
#
# Needs rtspsrc (GStreamer good plugins) and a decoder for the camera's codec: for H.264 or H.265
# gstreamer1.0-libav and gstreamer1.0-plugins-bad (./setup --codecs), or the board's own hardware decoder.
set -eu
. "$(dirname "$0")/common.sh"
arguments 2 3 "$@"

use_model "$1"
if [ -n "${VADLITE_SOURCE:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $VADLITE_SOURCE
else
    [ -n "${VADLITE_PRINT:-}" ] || need rtspsrc "Install GStreamer's good plugins (gstreamer1.0-plugins-good)."
    set -- rtspsrc "location=$2" "latency=${3:-200}" protocols=tcp ! application/x-rtp,media=video
fi
inspect "$@" ! decodebin ! queue leaky=downstream max-size-buffers=2

#!/bin/sh
# Inspects what a USB camera (V4L2) sees.
#
#     sh pipelines/usb-camera.sh MODEL [DEVICE [WIDTHxHEIGHT]]
#
# MODEL         made by: vadlite fit --images GOOD_DIR --out part.vadlite
# DEVICE        default /dev/video0 (v4l2-ctl --list-devices shows them)
# WIDTHxHEIGHT  default: what the camera offers first
#
# Needs v4l2src (GStreamer good plugins). Frames that wait are replaced by newer ones, so the delay stays small.
set -eu
. "$(dirname "$0")/common.sh"
arguments 1 3 "$@"

use_model "$1"
device=${2:-/dev/video0}
caps=video/x-raw
if [ -n "${3:-}" ]; then
    caps="video/x-raw,width=${3%x*},height=${3#*x}"
fi
if [ -n "${VADLITE_SOURCE:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $VADLITE_SOURCE ! capsfilter "caps=$caps"
else
    need_camera "$device"
    set -- v4l2src "device=$device" ! capsfilter "caps=$caps"
fi
inspect "$@" ! queue leaky=downstream max-size-buffers=2

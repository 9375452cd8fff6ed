#!/bin/sh
# Inspects what a CSI camera on an NVIDIA Jetson sees.
#
#     sh pipelines/jetson.sh MODEL [SENSOR [WIDTHxHEIGHT [FRAMES_PER_SECOND]]]
#
# MODEL              made by: vadlite fit --images GOOD_DIR --out part.vadlite
# SENSOR             number of the CSI sensor, default 0
# WIDTHxHEIGHT       default 1920x1080; must be one of the sensor's modes
# FRAMES_PER_SECOND  default 30
#
# Needs nvarguscamerasrc and nvvidconv (they come with JetPack). nvvidconv scales on the Jetson's image processor and
# copies the small picture to system memory, where vadlite looks at it; on the screen is that picture.
set -eu
. "$(dirname "$0")/common.sh"
arguments 1 4 "$@"

use_model "$1"
size=${3:-1920x1080}
if [ -n "${VADLITE_SOURCE:-}" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $VADLITE_SOURCE ! capsfilter caps=video/x-raw,format=NV12
else
    if [ -z "${VADLITE_PRINT:-}" ]; then
        need nvarguscamerasrc "It comes with NVIDIA's JetPack; this pipeline runs on a Jetson only."
        need nvvidconv "It comes with NVIDIA's JetPack; this pipeline runs on a Jetson only."
    fi
    set -- nvarguscamerasrc "sensor-id=${2:-0}" \
        ! "video/x-raw(memory:NVMM),format=NV12,width=${size%x*},height=${size#*x},framerate=${4:-30}/1" \
        ! nvvidconv ! video/x-raw,format=NV12,width=960,height=540
fi
inspect "$@" ! queue leaky=downstream max-size-buffers=2

#!/bin/sh
# Inspects what a camera sees and opens the reject gate when a flagged part is there.
#
#     sh pipelines/reject-gate.sh MODEL OUTPUT [DELAY [DEVICE]]
#
# MODEL   made by vadlite fit or pipelines/learn.sh
# OUTPUT  mqtt://HOST/TOPIC, modbus-tcp://HOST/COIL or gpio://CHIP/LINE (gst-inspect-1.0 vadlitetrigger has more)
# DELAY   milliseconds of a part from the camera to the gate, default 500
# DEVICE  the V4L2 camera, default /dev/video0
#
# Parts that could not be inspected are rejected as well: fail-safe=reject, after 2 s without a frame. More properties of
# the gate: VADLITE_GATE="decision=majority merge-window=400000000"
set -eu
. "$(dirname "$0")/common.sh"
arguments 2 4 "$@"

use_model "$1"
after="vadlitetrigger output=$2 delay=${3:-500}000000 fail-safe=reject watchdog=2000000000 ${VADLITE_GATE:-} !"
inspect_camera "${4:-/dev/video0}"

#!/bin/sh
# Learns what good parts look like from a camera, writes the model, and goes on to inspect.
#
#     sh pipelines/learn.sh MODEL [FRAMES [DEVICE]]
#
# MODEL   the file to write, such as part.vadlite; one that is there is replaced when the new one is complete
# FRAMES  good frames to learn from, default 300
# DEVICE  the V4L2 camera, default /dev/video0
#
# Let good parts pass, and nothing else. The bar in the picture and the lines printed say how far it is. A hand
# or another thing that comes in between is left out.
set -eu
. "$(dirname "$0")/common.sh"
arguments 1 3 "$@"

find_plugin
model=$(absolute "$1")
options="mode=learn learn-frames=${2:-300}"
inspect_camera "${3:-/dev/video0}"

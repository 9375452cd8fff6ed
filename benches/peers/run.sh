#!/bin/sh
# Times vadlite and its neighbours in one run, on one thread, and prints one table (README.md beside this file).
#
#     sh benches/peers/run.sh [--rounds N] [--frames N] [--json FILE]
#
# The neighbours are installed from PyPI into target/peers, 7 GB because PyTorch's wheel brings CUDA along.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/peers

cargo build --release --locked --manifest-path "$root/Cargo.toml"
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
exec "$venv/bin/python" "$here/peers.py" --vadlite "$root/target/release/vadlite" "$@"

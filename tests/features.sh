#!/bin/sh
# What may be left out can be left out: the library compiles without warnings with the Cargo features of a build that makes sense.
#
#     sh tests/features.sh
set -eu
cd "$(dirname "$0")/.."

# A camera that only marks frames; one that fires one kind of output each; a device that is fitted elsewhere; a program without a gate.
for features in "" mqtt modbus gpio mqtt,modbus,gpio cli; do
    echo "features: ${features:-none}"
    cargo clippy --release --locked --quiet --lib --no-default-features --features "$features" -- -D warnings
done

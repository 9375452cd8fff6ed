#!/bin/sh
# The feature `analytics` on a system with GStreamer 1.24 or newer: unit tests, then a program that knows only GstAnalytics reads from a
# pipeline where a part looks wrong. As root on Debian 13, or in a chroot of it:
#
#     sh tests/chroot.sh trixie sh tests/analytics.sh
set -eu

cd "$(dirname "$0")/.."
root=$PWD
./setup
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        libgstreamer-plugins-bad1.0-dev gir1.2-gst-plugins-bad-1.0 >/dev/null
fi
pkg-config --modversion gstreamer-analytics-1.0
cargo test --release --locked --features analytics --lib analytics
cargo build --release --locked --features analytics

work=$root/target/analytics
rm -rf "$work"
mkdir -p "$work/good"
cd "$work"
export GST_PLUGIN_PATH="$root/target/release" GST_REGISTRY="$work/registry.bin" PATH="$root/target/release:$PATH"
gst-launch-1.0 -q videotestsrc pattern=smpte num-buffers=40 ! video/x-raw,width=320,height=240 ! videoconvert ! pngenc ! \
    multifilesink location=good/%03d.png
vadlite fit --method padim-lite --images good --out part.vadlite

# seen PATTERN: what is read of five frames.
seen() {
    /usr/bin/python3 "$root/docs/examples/read_analytics.py" part.vadlite \
        "videotestsrc pattern=$1 num-buffers=5 ! video/x-raw,width=320,height=240 ! videoconvert ! video/x-raw,format=RGB" | tee "$1.txt"
}
seen smpte
[ "$(grep -c '^good 0\.[5-9][0-9]*$' smpte.txt)" -eq 5 ] || {
    echo "FAILED: the picture that the model was fitted on is not good" >&2
    exit 1
}
seen snow
[ "$(grep -c '^anomaly 0\.[5-9][0-9]*; anomaly [0-9]*,[0-9]* [0-9]*x[0-9]* 0\.[5-9]' snow.txt)" -eq 5 ] || {
    echo "FAILED: a picture that is quite different has no anomaly" >&2
    exit 1
}
echo "3 passed, 0 failed"

#!/bin/sh
# Builds and installs with meson, into a prefix and below DESTDIR, and runs what was installed.
#
#     sh tests/meson.sh
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
work=$root/target/meson-test
prefix=$work/prefix
rm -rf "$work"
mkdir -p "$work/good"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

cd "$root"
meson setup "$work/build" --prefix="$prefix" --libdir=lib
meson compile -C "$work/build"
meson test -C "$work/build" --no-rebuild
meson install -C "$work/build" --no-rebuild --quiet
DESTDIR=$work/destdir meson install -C "$work/build" --no-rebuild --quiet

for file in bin/vadlite lib/gstreamer-1.0/libgstvadlite.so lib/vadlite/libonnxruntime.so share/vadlite/models/mobilenetv2.onnx \
    share/vadlite/models/mobilenetv2-int8.onnx \
    share/vadlite/models/SHA256SUMS share/vadlite/pipelines/usb-camera.sh share/vadlite/pipelines/common.sh; do
    [ -e "$prefix/$file" ] || fail "$prefix/$file is not there"
    [ -e "$work/destdir$prefix/$file" ] || fail "$work/destdir$prefix/$file is not there"
done

# From another folder, with nothing but the installation.
cd "$work"
export GST_PLUGIN_PATH="$prefix/lib/gstreamer-1.0" GST_REGISTRY="$work/registry.bin" PATH="$prefix/bin:$PATH"
unset ORT_DYLIB_PATH
gst-inspect-1.0 vadlite >inspect.log || fail "gst-inspect-1.0 does not find the installed element"
grep -q "Filename *$prefix/lib/gstreamer-1.0/libgstvadlite.so" inspect.log || fail "the element is not the installed one: $(grep Filename inspect.log)"
gst-launch-1.0 -q videotestsrc num-buffers=30 ! video/x-raw,width=320,height=240 ! pngenc ! multifilesink location=good/%03d.png
vadlite fit --method padim-lite --images good --out part.vadlite || fail "the installed vadlite fits no model"
VADLITE_SOURCE="videotestsrc num-buffers=20 ! video/x-raw,width=320,height=240" VADLITE_SINK=fakesink \
    sh "$prefix/share/vadlite/pipelines/usb-camera.sh" part.vadlite || fail "the installed pipeline does not run"
echo "meson.sh: installed below $prefix, and below DESTDIR; runs from there"

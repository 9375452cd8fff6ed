#!/bin/sh
# What a gst-launch-1.0 pipeline with vadlite holds in memory, by owner, in kB of its resident set.
#
#     sh benches/memory.sh part.vadlite [more models]
#
# Needs the plugin in target/release (cargo build --release) or an installed one.
set -eu

[ $# -gt 0 ] || {
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
root=$(cd "$(dirname "$0")/.." && pwd)
[ -f "$root/target/release/libgstvadlite.so" ] && export GST_PLUGIN_PATH="$root/target/release"

# resident ELEMENTS…: the resident set of a running pipeline, sorted by what it belongs to.
resident() {
    gst-launch-1.0 -q videotestsrc is-live=true ! video/x-raw,format=NV12,width=640,height=480,framerate=30/1 "$@" ! fakesink &
    pid=$!
    sleep 4
    awk '
        # A mapping: its range, rights, offset, device, inode and name.
        /^[0-9a-f]+-[0-9a-f]+ / {
            name = $6
            if (name ~ /libonnxruntime/) owner = "library: ONNX Runtime"
            else if (name ~ /gstvadlite/) owner = "library: vadlite"
            else if (name ~ /\.so/ || name ~ /gst-launch/ || name ~ /^\[v/) owner = "library: GStreamer, C"
            else if (name ~ /^\[stack/) owner = "stack"
            else owner = "heap: sessions, model, buffers"
        }
        /^Rss:/ { sum[owner] += $2; all += $2 }
        END {
            for (owner in sum) printf "    %-34s %8d kB\n", owner, sum[owner] | "sort"
            close("sort")
            printf "    %-34s %8d kB\n", "all", all
        }' "/proc/$pid/smaps"
    kill -INT "$pid"
    wait "$pid" || true
}

echo "without vadlite"
resident
for model; do
    echo "with $model"
    resident ! vadlite model="$model" threads=1
done

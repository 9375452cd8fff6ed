#!/bin/sh
# The frames of tests/random_frames.rs under valgrind's memcheck: no read or write outside of memory that there is, no decision on bytes
# that nobody has set; in kernels, drawing and pictures, and in the elements with ONNX Runtime. Some minutes for the compiler and some for
# the frames. Ends with 77 where valgrind is missing (Debian: apt-get install valgrind).
#
#     sh tests/valgrind.sh [FRAMES]       300 of them if nothing is said
#
# What tests/valgrind.supp suppresses is in other libraries alone.
set -eu

case ${1-} in
-*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
command -v valgrind >/dev/null || {
    echo "valgrind.sh: valgrind is missing: apt-get install valgrind"
    exit 77
}
cd "$(dirname "$0")/.."

# In the dev profile: its errors have lines.
built=$(cargo test --locked --test random_frames --no-run 2>&1) || {
    printf '%s\n' "$built" >&2
    exit 1
}
test=$(printf '%s\n' "$built" | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
[ -x "$test" ] || {
    echo "valgrind.sh: cargo names no executable: $built" >&2
    exit 1
}
# The runtime, as cargo sets it for tests.
VADLITE_RANDOM_FRAMES=${1:-300} valgrind --quiet --fair-sched=yes --error-exitcode=9 --suppressions=tests/valgrind.supp \
    "$test" --nocapture --test-threads=1
echo "valgrind.sh: no error"

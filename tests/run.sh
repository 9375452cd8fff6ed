#!/bin/sh
# Everything that must pass before a change lands; stops at the first failure and names it.
#
#     sh tests/run.sh
set -eu

cd "$(dirname "$0")/.."
root=$PWD
log=$root/target/tests
mkdir -p "$log"
: >"$log/summary"
step=

finish() {
    code=$?
    if [ "$code" -ne 0 ] && [ -n "$step" ]; then
        printf '\nFAILED: %s\n' "$step" >&2
        printf '%s passed, 1 failed\n' "$(wc -l <"$log/summary")"
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

# run NAME COMMAND…
run() {
    step=$1
    shift
    printf '\n== %s: %s\n' "$step" "$*"
    start=$(date +%s)
    "$@"
    printf '%-28s %4d s\n' "$step" $(($(date +%s) - start)) >>"$log/summary"
    step=
}

run setup ./setup --tests
for component in rustfmt clippy; do
    case $component in rustfmt) tool=fmt ;; *) tool=clippy ;; esac
    cargo "$tool" --version >/dev/null 2>&1 || {
        echo "run.sh: cargo $tool is missing. Get it with: rustup component add $component" >&2
        exit 1
    }
done
run "format" cargo fmt --check
# All in the release profile, so that dependencies are compiled once.
run "lints" cargo clippy --release --all-targets --locked -- -D warnings
run "tests" cargo test --release --locked
# Once each, to see that they work; the times are for a quiet machine.
run "benchmarks" cargo bench --locked -- --test
run "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --locked
run "models" sh tests/models.sh
# Before the release build: both use target/release, which then looks for models and runtime in this source tree again.
run "installation" sh tests/meson.sh
run "release build" cargo build --release --locked
run "oldest ONNX Runtime" sh tests/runtimes.sh
run "independent computation" sh tests/independent.sh
run "pipelines" sh tests/pipelines.sh

printf '\n== summary\n'
cat "$log/summary"
printf '%s passed, 0 failed\n' "$(wc -l <"$log/summary")"

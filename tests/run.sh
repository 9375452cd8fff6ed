#!/bin/sh
# Everything that must pass before a change lands; stops at the first failure and names it.
#
#     sh tests/run.sh           the whole
#     sh tests/run.sh --fast    while one works: the format and the quick tests, in less than a minute once all is built
#     sh tests/run.sh --lint    what reads the code and runs none of it
set -eu

# The files in tests/ that --fast leaves out, each for the time it takes.
slow="
    belt            a minute of belt in real time
    belt_of_parts   a minute of belt with three lanes of parts
    cli_copies      fits on copies of many pictures
    cli_research    fits every method of a study
    fit_report      a browser
    gate_promises   ten thousand parts on their way
    killed          starts and kills recordings and brokers
    learn           live streams that learn and fit
    learn_parts     learns from a belt and from stills
    learn_launch    learns under gst-launch-1.0 with every kind of sink
    model_file      damages a model file in hundreds of places
    outputs         peers that misbehave in real time
    random_frames   thousands of frames
    record_slow     frames of 12 megapixels
    record_stalled  waits for a disk that never comes
    reload          live streams over several models
    report          a browser
    silent_name_server  waits for a name server that never answers
    statistics      peers that misbehave in real time
    tiles           fits at full resolution
"

tier=${1:-whole}
case $tier in
whole | --fast | --lint) ;;
*)
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.."
root=$PWD
log=$root/target/tests
mkdir -p "$log"
rm -f "$log"/*.code
: >"$log/summary"
step=

passed() { grep -c -v ' skipped$' "$log/summary" || true; }
finish() {
    code=$?
    if [ "$code" -ne 0 ] && [ -n "$step" ]; then
        printf '\nFAILED: %s\n' "$step" >&2
        printf '%s passed, 1 failed\n' "$(passed)"
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

# run NAME COMMAND…: a command that ends with 77 says that it could not make its check.
run() {
    step=$1
    shift
    printf '\n== %s: %s\n' "$step" "$*"
    start=$(date +%s)
    code=0
    "$@" || code=$?
    case $code in
    0) printf '%-28s %4d s\n' "$step" $(($(date +%s) - start)) >>"$log/summary" ;;
    77) printf '%-28s skipped\n' "$step" >>"$log/summary" ;;
    *) exit "$code" ;;
    esac
    step=
}

# aside NAME COMMAND…: a command that runs beside the steps to come, until awaited NAME. Nothing of it may be in their way.
aside() {
    name=$1
    shift
    printf '\n== %s, beside what follows: %s\n' "$name" "$*"
    (
        code=0
        "$@" >"$log/$name.log" 2>&1 || code=$?
        echo "$code" >"$log/$name.code"
    ) &
}

# awaited NAME: what it printed, and how it ended. For run.
awaited() {
    until [ -s "$log/$1.code" ]; do sleep 1; done
    cat "$log/$1.log"
    return "$(cat "$log/$1.code")"
}

summary() {
    printf '\n== summary\n'
    cat "$log/summary"
    printf '%s passed, 0 failed\n' "$(passed)"
}

# need COMPONENT…: those of rustup, which may be left out of a toolchain.
need() {
    for component; do
        case $component in rustfmt) tool=fmt ;; *) tool=$component ;; esac
        cargo "$tool" --version >/dev/null 2>&1 || {
            echo "run.sh: cargo $tool is missing. Get it with: rustup component add $component" >&2
            exit 1
        }
    done
}

# The quick tests, as words for cargo: the library's own and every file in tests/ that is not slow.
quick() {
    printf '%s\n' "$slow" | awk 'NF { print $1 }' >"$log/slow"
    while read -r name; do
        [ -f "tests/$name.rs" ] || {
            echo "run.sh: there is no tests/$name.rs; its list of slow tests must follow" >&2
            return 1
        }
    done <"$log/slow"
    echo --lib
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        grep -qx "$name" "$log/slow" || echo "--test $name"
    done
}

# Those that wait more than they compute.
waiting="belt outputs record_stalled silent_name_server statistics"

# All tests but those that wait, as words for cargo.
all_others() {
    echo --lib --bins
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        case " $waiting " in *" $name "*) ;; *) echo "--test $name" ;; esac
    done
}

lint() {
    need rustfmt clippy
    run "format" cargo fmt --check
    run "shell scripts" shellcheck setup .ci/run tests/*.sh pipelines/*.sh benches/*.sh benches/peers/*.sh
    run "licences and origins" cargo deny --locked check --hide-inclusion-graph licenses bans sources
    # All in the release profile, so that dependencies are compiled once.
    run "lints" cargo clippy --release --all-targets --locked -- -D warnings
    run "circles of imports" python3 tests/circles.py
    run "tests that are named" python3 tests/named_tests.py
    run "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --locked
}

if [ "$tier" = --fast ]; then
    need rustfmt
    run "format" cargo fmt --check
    chosen=$(quick)
    # shellcheck disable=SC2086 # a list of words
    run "quick tests" cargo test --release --locked $chosen
    summary
    exit
fi

run setup ./setup --tests
PATH=$root/target/tools:$PATH
# It has a target folder of its own, and cargo uses one core for much of what follows.
aside aarch64 sh tests/aarch64.sh
lint
if [ "$tier" = --lint ]; then
    run "features" sh tests/features.sh
    run "aarch64" awaited aarch64
    summary
    exit
fi
run "tests' build" cargo test --release --locked --no-run
run "aarch64" awaited aarch64
# When the tests below have been found to be built already, and nothing else asks for the target folder.
aside features sh -c 'sleep 20; exec sh tests/features.sh'
# shellcheck disable=SC2086,SC2046 # lists of words
aside waiting cargo test --release --locked --no-fail-fast $(printf -- '--test %s ' $waiting)
# All others; one run names all that fail.
others=$(all_others)
# shellcheck disable=SC2086 # a list of words
run "tests" cargo test --release --locked --no-fail-fast $others
run "tests that wait" awaited waiting
run "features" awaited features
# Once each, to see that they work; the times are for a quiet machine.
run "benchmarks" cargo bench --locked -- --test
run "models" sh tests/models.sh
run "release build" cargo build --release --locked
run "oldest ONNX Runtime" sh tests/runtimes.sh
run "independent computation" sh tests/independent.sh
run "pipelines" sh tests/pipelines.sh
# At last: it uses target/release too, which then looks for models and runtime where an installation has them, until it is built again.
run "installation" sh tests/meson.sh
summary

# Shorthands for https://just.systems (Debian 13: just); every recipe is a line that can be typed without it.

set positional-arguments

# What there is
default:
    @just --list --unsorted

# The minute's check, while one works
check:
    sh tests/run.sh --fast

alias fast := check

# Everything that must pass before a change lands
test:
    sh tests/run.sh

# What reads the code and runs none of it: format, shellcheck, clippy, licences, documentation, aarch64
lint:
    sh tests/run.sh --lint

# Formats the code
fmt:
    cargo fmt

# The documentation of the Rust library, in target/doc
doc:
    cargo doc --release --no-deps --locked

# Times the kernels and the detector; give a name for one of them
bench *arguments:
    cargo bench --locked "$@"

# What vadlite and its neighbours take on this machine (7 GB of packages)
peers *arguments:
    sh benches/peers/run.sh "$@"

# Fits and inspects generated pictures, or your own: just demo GOOD_DIR TEST_DIR
demo *folders:
    sh pipelines/demo.sh "$@"

# Known faults of the dependencies; fetches their database from GitHub
audit:
    ./setup --tests
    PATH="$PWD/target/tools:$PATH" cargo deny --locked check advisories

# The NEON kernels compile
aarch64:
    sh tests/aarch64.sh

# A command in a bare Debian, as root; the whole of the tests unless another is given
chroot suite="bookworm" *command:
    sh tests/chroot.sh "$@"

#!/bin/sh
# Compiles the library and the program for aarch64 (`cargo check`), so that the NEON kernels are seen by a compiler on x86_64 too.
#
#     sh tests/aarch64.sh
#
# Takes the toolchain's own standard library for aarch64 where it is installed (rustup target add aarch64-unknown-linux-gnu).
# Otherwise, with apt-get, it fetches Debian's rustc and its two standard libraries into target/aarch64 (140 MB, 630 MB unpacked; once) and
# lets cargo use them from there: nothing is installed, and root is not needed. VADLITE_DEBIAN_MIRROR: in place of deb.debian.org.
# Exit code: 0 it compiles, 77 the check was not made (no standard library for aarch64 can be had), else it does not compile.
set -eu

target=aarch64-unknown-linux-gnu
# The first Debian whose rustc is new enough for Cargo.toml's rust-version.
suite=forky
mirror=${VADLITE_DEBIAN_MIRROR:-http://deb.debian.org/debian}

cd "$(dirname "$0")/.."
work=$PWD/target/aarch64
mkdir -p "$work"

skip() {
    echo "aarch64.sh: NOT CHECKED: no standard library for $target: $*" >&2
    exit 77
}

# has_std RUSTC: whether it has a standard library for the target.
has_std() {
    folder=$("$1" --print target-libdir --target "$target" 2>/dev/null) && ls "$folder"/libstd-*.rlib >/dev/null 2>&1
}

# Debian's packages, unpacked in $work/debian, and $work/rustc, which runs the compiler in there with the C library it was made for.
fetch_debian() {
    for tool in apt-get apt-cache dpkg-deb; do
        command -v "$tool" >/dev/null || skip "there is no $tool to fetch Debian's with"
    done
    [ "$(uname -m)" = x86_64 ] || skip "Debian's compiler is fetched on x86_64 only"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$keyring" ] || skip "$keyring is missing (package debian-archive-keyring)"

    apt=$work/apt
    rm -rf "$apt"
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/packages"
    : >"$apt/status"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
    # An apt of its own, beside the system's; what /etc/apt says of proxies and the like holds here too.
    cat >"$apt/apt.conf" <<END
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
APT::Update::Error-Mode "any";
END
    export APT_CONFIG="$apt/apt.conf"
    echo "aarch64.sh: fetching rustc of Debian $suite"
    apt-get -q update >"$apt/log" 2>&1 || {
        tail -n 5 "$apt/log" >&2
        skip "$mirror cannot be read"
    }
    # With what the compiler itself needs to run; not with a linker, which is the system's.
    needed=$(apt-get install --simulate libstd-rust-dev 2>>"$apt/log" | awk '/^Inst / { print $2 }') || needed=
    [ -n "$needed" ] || skip "Debian $suite has no libstd-rust-dev"
    # shellcheck disable=SC2086 # a list of words
    (cd "$apt/packages" && apt-get -q download rustc "libstd-rust-dev:arm64" $needed) >>"$apt/log" 2>&1 || {
        tail -n 5 "$apt/log" >&2
        skip "the packages cannot be fetched from $mirror"
    }
    unset APT_CONFIG
    rm -rf "$work/debian" "$work/debian.new"
    mkdir "$work/debian.new"
    for package in "$apt"/packages/*.deb; do
        dpkg-deb --extract "$package" "$work/debian.new"
    done
    mv "$work/debian.new" "$work/debian"
    rm -rf "$apt"
}

if [ "$(uname -m)" = aarch64 ]; then
    echo "aarch64.sh: this machine is aarch64"
elif has_std rustc; then
    echo "aarch64.sh: the toolchain has a standard library for $target"
else
    rustc=$work/rustc
    cat >"$rustc" <<'END'
#!/bin/sh
debian=$(dirname "$0")/debian
exec "$debian/usr/lib64/ld-linux-x86-64.so.2" --library-path "$debian/usr/lib/x86_64-linux-gnu" --argv0 rustc \
    "$debian/usr/bin/rustc" --sysroot "$debian/usr" "$@"
END
    chmod +x "$rustc"
    has_std "$rustc" || fetch_debian
    has_std "$rustc" || skip "Debian's rustc does not run here: $("$rustc" --version 2>&1 | tail -n 1)"
    echo "aarch64.sh: $("$rustc" --version), from Debian $suite"
    export RUSTC="$rustc"
fi

# A check links nothing. So GStreamer's .pc files may be this machine's, and what dependencies write in C or assembly need not be compiled.
export PKG_CONFIG_ALLOW_CROSS=1 CC_aarch64_unknown_linux_gnu=true AR_aarch64_unknown_linux_gnu=true
# A folder of its own: another compiler must not touch what target/release has.
cargo check --release --locked --target "$target" --target-dir "$work/build" --lib --bins
echo "aarch64.sh: library and program compile for $target"

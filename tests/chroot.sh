#!/bin/sh
# Runs a command in a bare Debian with a fresh clone of HEAD: what a new user's machine has, and nothing else of this one. Needs root,
# debootstrap and git.
#
#     sh tests/chroot.sh SUITE [COMMAND…]         SUITE: bookworm, trixie, forky; COMMAND: sh tests/run.sh
#     sh tests/chroot.sh bookworm './setup && cargo build --release'
#
# A COMMAND of one word is a shell's line. The Rust toolchain is a copy of this machine's. The bare system is made once, in
# target/chroot/SUITE/base; each run copies it to target/chroot/SUITE/run, and leaves that there to be looked at.
#   VADLITE_CHROOT=DIR         in place of target/chroot/SUITE; it must be on a file system that has devices and runs programs
#   VADLITE_CHROOT_KEEP=1      goes on in the last run's system, with its packages and its target/ (the clone is fresh all the same)
#   VADLITE_DEBIAN_MIRROR=URL  in place of http://deb.debian.org/debian
# How the package registries are reached (proxies, certificates, mirrors of cargo and pip) is as on this machine.
set -eu

case ${1-} in
'' | -*)
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
suite=$1
shift
[ $# -gt 0 ] || set -- sh tests/run.sh
[ $# -gt 1 ] || set -- sh -c "$1"

die() {
    echo "chroot.sh: $*" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || die "only root can make a chroot"
for tool in debootstrap git chroot; do
    command -v "$tool" >/dev/null || die "$tool is missing: apt-get install debootstrap git"
done

root=$(cd "$(dirname "$0")/.." && pwd)
work=${VADLITE_CHROOT:-$root/target/chroot/$suite}
mirror=${VADLITE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
base=$work/base
system=$work/run
mkdir -p "$work"

if [ ! -d "$base" ]; then
    echo "chroot.sh: making a bare Debian $suite"
    rm -rf "$work/base.new"
    debootstrap --variant=minbase "$suite" "$work/base.new" "$mirror" >"$work/debootstrap.log" 2>&1 ||
        die "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
    {
        echo "deb $mirror $suite main"
        echo "deb $mirror $suite-updates main"
        [ -n "${VADLITE_DEBIAN_MIRROR:-}" ] || echo "deb http://deb.debian.org/debian-security $suite-security main"
    } >"$work/base.new/etc/apt/sources.list"
    rm -f "$work/base.new"/var/cache/apt/archives/*.deb
    mv "$work/base.new" "$base"
fi

toolchain=$(rustc --print sysroot)
if [ "$(cat "$base/opt/rust/version" 2>/dev/null)" != "$(rustc -vV)" ]; then
    echo "chroot.sh: copying $(rustc --version)"
    rm -rf "$base/opt/rust"
    mkdir -p "$base/opt/rust"
    # share/ is documentation.
    for folder in bin lib libexec; do
        [ ! -d "$toolchain/$folder" ] || cp -a "$toolchain/$folder" "$base/opt/rust/"
    done
    rustc -vV >"$base/opt/rust/version"
fi

if [ -z "${VADLITE_CHROOT_KEEP:-}" ] || [ ! -d "$system" ]; then
    rm -rf "$system"
    cp -a "$base" "$system"
fi

# The network as this machine has it. A bundle of certificates with a name of its own: the package ca-certificates writes the usual one.
cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' >"$system/etc/apt/apt.conf.d/90host" || true
certificates=/etc/ssl/host-certificates.crt
mkdir -p "$system/etc/ssl" "$system/root/.cargo" "$system/root/.config/pip"
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$system$certificates"
fi
for file in "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$HOME/.config/pip/pip.conf" /etc/pip.conf; do
    [ -f "$file" ] || continue
    case $file in
    */config.toml) cp "$file" "$system/root/.cargo/config.toml" ;;
    /etc/*) cp "$file" "$system$file" ;;
    *) cp "$file" "$system/root/.config/pip/pip.conf" ;;
    esac
done

commit=$(git -C "$root" rev-parse HEAD)
source=$system/srv/vadlite
rm -rf "$system/srv/vadlite.new"
git clone --quiet --no-local --no-checkout "$root" "$system/srv/vadlite.new"
git -C "$system/srv/vadlite.new" checkout --quiet --detach "$commit"
[ ! -d "$source/target" ] || mv "$source/target" "$system/srv/vadlite.new/target"
rm -rf "$source"
mv "$system/srv/vadlite.new" "$source"

# Of the environment only what says how the registries are reached.
{
    echo "export PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8"
    env | sed -n 's/^\([A-Za-z_]*_proxy\|[A-Z_]*_PROXY\|PIP_[A-Z_]*\|CARGO_\(HTTP\|NET\|SOURCE\|REGISTR\)[A-Z_]*\)=.*/\1/p' |
        grep -v -x -E 'PIP_(FIND_LINKS|CERT)|CARGO_HTTP_CAINFO' | while read -r name; do
        printf "export %s='%s'\n" "$name" "$(printenv "$name" | sed "s/'/'\\\\''/g")"
    done
    if [ -f "$system$certificates" ]; then
        for name in SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE PIP_CERT GIT_SSL_CAINFO CARGO_HTTP_CAINFO NODE_EXTRA_CA_CERTS; do
            echo "export $name=$certificates"
        done
    fi
} >"$system/root/environment"

echo "chroot.sh: Debian $suite, commit $(git -C "$root" rev-parse --short HEAD)"
# In a mount namespace, so that no mount outlives the run. A Rust toolchain finds its libraries through /proc.
# shellcheck disable=SC2016 # the inner shell's variables
run='
    system=$1
    shift
    mount -t proc proc "$system/proc" || exit 1
    mount --rbind /dev "$system/dev" || exit 1
    exec chroot "$system" env -i TERM=dumb sh -c ". /root/environment; cd /srv/vadlite; exec \"\$@\"" sh "$@"'
exec unshare --mount --propagation private sh -c "$run" sh "$system" "$@"

#!/usr/bin/env bash
# Makes a tarball that runs on other distributions: the program without FFmpeg's libraries (it uses the program ffmpeg
# where there is one), man pages, completions, licences.
#   scripts/dist.sh [OUT]      OUT is dist/ by default
# The program is linked by zig against glibc 2.31 (Debian 11, Ubuntu 20.04) in a build folder of its own kind. With
# DIST_PROGRAM=FILE a program that is there is packed. scripts/dist_test.sh tries the tarball in roots of distributions.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-dist}
glibc=2.31
target=$(uname -m)-unknown-linux-gnu
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
say() { printf 'dist: %s\n' "$*"; }
fail() { printf 'dist: %s\n' "$*" >&2; exit 1; }

program=${DIST_PROGRAM:-}
if [[ -z $program ]]; then
    tools=${DIST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/deepforcing/dist-tools}
    if ! command -v cargo-zigbuild >/dev/null 2>&1; then
        [[ -x $tools/bin/cargo-zigbuild ]] || {
            say "getting the linker (cargo-zigbuild and ziglang, from PyPI) into $tools"
            python3 -m venv "$tools"
            "$tools/bin/pip" install --quiet cargo-zigbuild ziglang
        }
        export PATH=$tools/bin:$PATH
    fi
    cargo zigbuild --release --target "$target.$glibc" --no-default-features --features bundled-model --bin deepforcing
    program=${CARGO_TARGET_DIR:-target}/$target/release/deepforcing
fi
[[ -x $program ]] || fail "there is no program $program"

newest=$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
say "newest symbol of the C library: ${newest:-none}"
if [[ $(printf '%s\n' "GLIBC_$glibc" "$newest" | sort -V | tail -n 1) != "GLIBC_$glibc" ]]; then
    [[ -n ${DIST_PROGRAM:-} ]] || fail "it needs more than glibc $glibc"
    say "it needs more than glibc $glibc, and runs only where that is"
fi

name=deepforcing-$version-${target%-unknown*}-linux
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/$name"/{bin,share/man/man1,share/bash-completion/completions,share/zsh/site-functions,share/fish/vendor_completions.d}
install -m 755 "$program" "$root/$name/bin/deepforcing"
# Symbols for a debugger are half of a development build.
strip "$root/$name/bin/deepforcing"
own=$root/$name/bin/deepforcing
"$own" man --out "$root/$name/share/man/man1"
"$own" completions bash >"$root/$name/share/bash-completion/completions/deepforcing"
"$own" completions zsh >"$root/$name/share/zsh/site-functions/_deepforcing"
"$own" completions fish >"$root/$name/share/fish/vendor_completions.d/deepforcing.fish"
cp LICENSE README.md "$root/$name/"
scripts/licences.sh >"$root/$name/THIRD_PARTY_LICENSES.txt"
mkdir -p "$out"
# The same bytes from the same program.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
    -C "$root" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
say "$out/$name.tar.gz: $(du -h "$out/$name.tar.gz" | cut -f1), program $(du -h "$own" | cut -f1)"

#!/usr/bin/env bash
# Installs what building and testing this program needs and the machine lacks:
# a C and a C++ compiler, pkg-config, the FFmpeg development files, libclang and Rust.
# With --tests also a browser and its driver, in which the report is tested, and the program ffmpeg.
# Rust comes from the distribution's package rustup where there is one (Debian 13, Ubuntu 24.04), else from rustup's own
# installer, which is said before.
# Does nothing when all is there. Made for Debian 12/13 and Ubuntu 22.04/24.04; elsewhere it names what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

with_tests=false
case ${1:-} in
    '') ;;
    --tests) with_tests=true ;;
    *) printf 'usage: scripts/setup.sh [--tests]\n' >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# rustup's directory first: a distribution's own cargo is usually too old.
export PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"

rust_wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
ffmpeg_libraries=(libavutil libavcodec libavformat libswscale libswresample)

have() { command -v "$1" >/dev/null 2>&1; }

# A compiler that can also link: the C library's development files may be missing.
have_c_compiler() {
    have cc && printf 'int main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}

# bindgen loads the library and needs the compiler's own headers (stddef.h). No clang binary is needed.
have_libclang() {
    local directories=(/usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib)
    local library header
    library=$(find "${LIBCLANG_PATH:-/nowhere}" "${directories[@]}" -maxdepth 1 \
        \( -name 'libclang.so*' -o -name 'libclang-*.so*' \) -print -quit 2>/dev/null || true)
    header=$(compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' \
        || compgen -G '/usr/lib*/clang/*/include/stddef.h' || true)
    [[ -n $library && ( -n $header || -n ${LIBCLANG_PATH:-} ) ]]
}

# Empty without cargo.
cargo_version() { { cargo --version 2>/dev/null || true; } | sed -n 's/^cargo \([0-9.]*\).*/\1/p'; }

have_rust() {
    local version
    version=$(cargo_version)
    [[ -n $version && $(printf '%s\n%s\n' "$rust_wanted" "$version" | sort -V | head -n 1) == "$rust_wanted" ]]
}

# Whether the distribution has a package that can be installed.
has_package() {
    have apt-cache && [[ $(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *//p') =~ ^[0-9] ]]
}

# The Debian and Ubuntu packages that are missing, found by what they provide.
missing_packages() {
    have_c_compiler || printf '%s\n' gcc libc6-dev
    have c++ || printf 'g++\n'
    have make || printf 'make\n'
    have pkg-config || printf 'pkg-config\n'
    local library
    for library in "${ffmpeg_libraries[@]}"; do
        { have pkg-config && pkg-config --exists "$library"; } || printf '%s-dev\n' "$library"
    done
    have_libclang || printf 'libclang-dev\n'
    if ! have_rust && ! have rustup; then
        if has_package rustup; then
            printf 'rustup\n'
        else
            have curl || printf '%s\n' curl ca-certificates
        fi
    fi
    ! $with_tests || have ffmpeg || printf 'ffmpeg\n'
}

# As root, or through sudo.
as_root() { if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi; }

refresh_lists() {
    [[ $(id -u) -eq 0 ]] || have sudo || return 0
    as_root apt-get update -qq || say "apt-get update failed, going on with the package lists there are"
}

install_packages() {
    [[ $(id -u) -eq 0 ]] || have sudo \
        || fail "installing packages needs root and there is no sudo. As root, run: apt-get install $*"
    local through=''
    [[ $(id -u) -eq 0 ]] || through=' (through sudo)'
    say "installing with apt-get$through: $*"
    refresh_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
        || fail "apt-get could not install: $*. See its message above."
}

install_rust() {
    local version
    version=$(cargo_version)
    say "Rust $rust_wanted or newer is needed, found ${version:-none}"
    if have rustup; then
        say "installing the newest stable toolchain: rustup toolchain install stable"
        rustup toolchain install stable --profile minimal --no-self-update \
            || fail "rustup could not install it (no network?). Try: rustup toolchain install stable"
        # A machine may have rustup and no toolchain at all.
        [[ -n $version ]] || rustup default stable
    elif have curl; then
        say "this distribution has no package rustup"
        say "installing Rust with rustup's own installer from https://sh.rustup.rs into ${CARGO_HOME:-${HOME:-/root}/.cargo}"
        # Not straight into a shell: a broken download must not run.
        local installer
        installer=$(mktemp)
        if ! curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" \
            || ! sh "$installer" -y --no-modify-path --profile minimal --component clippy --component rustfmt; then
            rm -f "$installer"
            fail "Rust could not be downloaded (no network?). Install Rust $rust_wanted or newer, see https://rustup.rs"
        fi
        rm -f "$installer"
        say "for your own shells: . \"${CARGO_HOME:-${HOME:-/root}/.cargo}/env\""
    else
        fail "install Rust $rust_wanted or newer, see https://rustup.rs"
    fi
    hash -r
    version=$(cargo_version)
    have_rust || fail "cargo is still ${version:-missing}, $rust_wanted or newer is needed. Is another toolchain pinned?"
}

# 'make test' checks format and lints.
ensure_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    have rustup || { say "cargo $1 is missing: 'make test' and 'make lint' will fail"; return; }
    say "adding the Rust component $2"
    rustup component add "$2" || say "the component $2 could not be added: 'make test' and 'make lint' will fail"
}

have_browser() { have chromedriver && { have chromium || have chromium-browser || have google-chrome; }; }

# Tests say so and go on without a browser, so nothing here ends the script.
ensure_browser() {
    have_browser && return
    local id=''
    [[ -r /etc/os-release ]] && id=$(. /etc/os-release && printf '%s' "${ID:-}")
    # Ubuntu's packages of these names only fetch a snap.
    if [[ $id == debian ]] && { [[ $(id -u) -eq 0 ]] || have sudo; }; then
        (install_packages chromium chromium-driver) || true
    fi
    have_browser || say "no chromium and chromedriver: the tests of the report in a browser will be skipped"
}

# A new machine has no lists of packages: whether there is one called rustup is not known then.
if ! have_rust && ! have rustup && have apt-cache && [[ -z $(apt-cache policy rustup 2>/dev/null) ]]; then
    refresh_lists
fi
mapfile -t missing < <(missing_packages)
if [[ ${#missing[@]} -gt 0 ]]; then
    if ! have apt-get; then
        say "this is not Debian or Ubuntu. Missing, by the names of the Debian packages: ${missing[*]}"
        say "Fedora: gcc gcc-c++ make pkgconf ffmpeg-devel (or ffmpeg-free-devel) clang-devel"
        say "Arch: base-devel pkgconf ffmpeg clang; macOS: brew install pkgconf ffmpeg llvm"
        fail "install them and run this again"
    fi
    install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    [[ ${#missing[@]} -eq 0 ]] || fail "still missing after the installation: ${missing[*]}"
fi
! $with_tests || ensure_browser
did_rust=false
have_rust || { install_rust; did_rust=true; }
ensure_component fmt rustfmt
ensure_component clippy clippy
$did_rust || say "all is there (cargo $(cargo_version), FFmpeg libavcodec $(pkg-config --modversion libavcodec))"

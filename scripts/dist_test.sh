#!/usr/bin/env bash
# Runs the tarball in clean roots of distributions, without and with a program ffmpeg there. Needs root and mmdebstrap.
#   scripts/dist_test.sh TARBALL [SUITE...]     SUITE: bullseye, bookworm, trixie (Debian), jammy, noble (Ubuntu)
# A suite whose packages cannot be had here is named and left out; one at least must have been tried.
set -euo pipefail

tarball=$(realpath "${1:?usage: scripts/dist_test.sh TARBALL [SUITE...]}")
shift
suites=("$@")
[[ ${#suites[@]} -gt 0 ]] || suites=(bullseye bookworm trixie jammy noble)
say() { printf 'dist_test: %s\n' "$*"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompt='a red ball bouncing over green hills'

# In a root: name of the test, words.
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/home "$@"; }

try() {
    # Relative to the root, in which every command begins.
    local program=deepforcing/bin/deepforcing
    say "$1: $(inside $program --version), $(inside ldd --version 2>/dev/null | head -n 1 || true)"
    for form in gif y4m png; do
        case $form in png) output=ball_%05d.png ;; *) output=ball.$form ;; esac
        inside $program generate "$prompt" --model toy --seconds 0.5 --quiet -o "$output" >/dev/null || return 1
    done
    if ! inside test -x /usr/bin/ffmpeg; then
        # What to install is said, before anything is made.
        if inside $program generate "$prompt" --model toy --seconds 0.5 -o ball.mp4 2>"$work/said"; then
            say "$1: an mp4 was written without an encoder"
            return 1
        fi
        grep -q 'apt install ffmpeg' "$work/said" || { cat "$work/said"; return 1; }
        say "$1: without ffmpeg: GIF, y4m and PNG are written; for mp4 it says: $(grep -o 'Install it[^;]*' "$work/said")…"
        return 0
    fi
    inside $program generate "$prompt" --model toy --seconds 2 --quiet -o ball.mp4 >/dev/null || return 1
    inside $program inspect ball.mp4 | grep "$prompt" >/dev/null || return 1
    inside $program metrics ball.mp4 >/dev/null || return 1
    inside $program doctor | sed -n '/^ffmpeg/,/^$/p' | head -n 4
    say "$1: with ffmpeg: mp4 is written, read, and carries its recipe"
}

tried=0
for suite in "${suites[@]}"; do
    for more in '' ffmpeg; do
        root=$work/$suite${more:+-$more}
        if ! mmdebstrap --variant=apt --include="ca-certificates${more:+,$more}" "$suite" "$root" \
            >"$work/$suite.log" 2>&1; then
            say "$suite${more:+ with $more}: no root can be made here ($(grep -m1 -E '^E:|error' "$work/$suite.log" || tail -n 1 "$work/$suite.log"))"
            break
        fi
        mkdir -p "$root/deepforcing"
        tar -xzf "$tarball" -C "$root/deepforcing" --strip-components=1
        mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
        try "$suite${more:+ with $more}" || { umount "$root/proc"; exit 1; }
        umount "$root/proc"
        rm -rf "$root"
        tried=$((tried + 1))
    done
done
[[ $tried -gt 0 ]] || { say "no root could be made"; exit 1; }
say "$tried roots tried"

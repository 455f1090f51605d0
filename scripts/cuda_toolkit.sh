#!/usr/bin/env bash
# Puts a CUDA 13.0 toolkit for building into FOLDER: compiler, headers, libraries. Needs python3 with pip and gcc, but
# no GPU, no driver and no root. Downloads about 1 GB of NVIDIA's Python wheels.
#   scripts/cuda_toolkit.sh FOLDER
# prints what to set before `cargo build --features cuda,cudnn`.
set -euo pipefail

say() { printf 'cuda_toolkit: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[[ $# -eq 1 ]] || fail "usage: scripts/cuda_toolkit.sh FOLDER"
mkdir -p "$1" || fail "cannot make the folder $1"
home=$(cd "$1" && pwd)

# A newer nvcc writes PTX that drivers of the 580 series refuse: the minor version is pinned.
packages=(
    'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*'
    'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-nvjitlink==13.0.*'
    'nvidia-cublas==13.1.*' 'nvidia-curand==10.4.0.*'
    'nvidia-cudnn-cu13==9.15.*' # with the attention that takes strided keys
)

print_settings() {
    say "ready. Before building, set:"
    printf 'export CUDA_HOME=%q CUDA_PATH=%q\n' "$home" "$home"
    printf 'export PATH=%q:"$PATH" LIBRARY_PATH=%q:%q${LIBRARY_PATH:+:$LIBRARY_PATH}\n' \
        "$home/bin" "$home/lib" "$home/lib/stubs"
}

if [[ -f $home/.complete ]]; then
    print_settings
    exit 0
fi
for tool in python3 gcc; do
    command -v "$tool" >/dev/null || fail "$tool is missing; on Debian: apt-get install python3-pip gcc"
done
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing; on Debian: apt-get install python3-pip"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "downloading ${#packages[@]} packages"
python3 -m pip download --quiet --no-deps --dest "$work/wheels" "${packages[@]}" \
    || fail "the packages could not be downloaded; see pip's message above"

say "unpacking to $home"
for wheel in "$work"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$work/tree"
done
cp -a "$work/tree/nvidia/cu13/." "$home"
for part in include lib; do
    cp -a "$work/tree/nvidia/cudnn/$part/." "$home/$part"
done
# Wheels know neither executables nor links: programs lose their mode, libraries have only their versioned names.
find "$home/bin" "$home/nvvm/bin" -type f -exec chmod +x {} +
ln -sfn lib "$home/lib64"
for library in "$home"/lib/lib*.so.*; do
    plain=${library%%.so.*}.so
    [[ -e $plain ]] || ln -s "$(basename "$library")" "$plain"
done

# The driver's library belongs to the machine that runs the program. To link, its names are enough: every function that
# cuda.h declares, under the names that its macros turn them into, too. 34 is the driver's error for such a stub.
mkdir -p "$home/lib/stubs"
grep -oE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?(_ptsz|_ptds)?\b' "$home/include/cuda.h" | sort -u > "$work/names"
{
    cat "$work/names"
    grep -vE '_pt[sd][sz]$' "$work/names" | sed -e 's/$/_ptsz/'
    grep -vE '_pt[sd][sz]$' "$work/names" | sed -e 's/$/_ptds/'
} | sort -u | sed -e 's/.*/int &(void) { return 34; }/' > "$work/stub.c"
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$home/lib/stubs/libcuda.so" "$work/stub.c" \
    || fail "the stub of libcuda could not be made"

"$home/bin/nvcc" --version >/dev/null || fail "the unpacked nvcc does not run"
touch "$home/.complete"
print_settings

#!/usr/bin/env bash
# Makes the Python wheel in OUT (dist/ by default): the program without FFmpeg's libraries, and the module deepforcing.
#   scripts/wheel.sh [OUT]
# The wheel runs where glibc is 2.31 or newer (Debian 11, Ubuntu 20.04): it is linked against that one by zig's linker,
# which ziglang brings. With WHEEL_PRESENT=1 it is of the build that the tests use instead: nothing is compiled again, FFmpeg's
# libraries are in it, and it runs where the build does. WHEEL_FEATURES adds features (cuda,cudnn: on a machine with CUDA's toolkit, see `make cuda`; not tried on a GPU).
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-dist}
features=bundled-model${WHEEL_FEATURES:+,$WHEEL_FEATURES}

# maturin in an environment of its own, unless it is there.
if ! command -v maturin >/dev/null 2>&1 || { [[ -z ${WHEEL_PRESENT:-} ]] && ! python3 -c 'import ziglang' 2>/dev/null; }; then
    tools=${WHEEL_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/deepforcing/wheel-tools}
    [[ -x $tools/bin/maturin ]] || {
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet 'maturin>=1.7,<2' ziglang
    }
    export PATH=$tools/bin:$PATH
fi

if [[ -n ${WHEEL_PRESENT:-} ]]; then
    # pyproject.toml names features for a wheel that is handed on; the build has the default ones.
    kind=(--profile dev --auditwheel skip --compatibility linux --features default)
elif [[ $features == *cuda* ]]; then
    # CUDA's toolkit decides where it runs.
    kind=(--release --auditwheel skip --compatibility linux --no-default-features --features "$features")
else
    kind=(--release --zig --compatibility manylinux_2_31 --no-default-features --features "$features")
fi
maturin build "${kind[@]}" --out "$out"

#!/usr/bin/env bash
# Installs the wheel as a user does, in a fresh environment, and uses it from Python: the stream, files, errors, a
# notebook, the node for ComfyUI.
#   scripts/wheel_test.sh [WHEEL]
# Without WHEEL it is made of the present build, and told to use the program ffmpeg of the extra. Everything is in a folder that is removed again.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf 'wheel_test: %s\n' "$*"; }
began=$SECONDS

wheel=${1:-}
if [[ -z $wheel ]]; then
    WHEEL_PRESENT=1 scripts/wheel.sh "$work/dist"
    wheel=$(ls "$work"/dist/*.whl)
    say "wheel made in $((SECONDS - began)) s: $(du -h "$wheel" | cut -f1)"
fi

# A plain user's environment: no variable of ours, no ffmpeg in the PATH but that of the wheel's extra.
unset DEEPFORCING_FFMPEG DEEPFORCING_PROGRAM DEEPFORCING_CACHE
export XDG_CACHE_HOME=$work/cache
mark=$SECONDS
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "$wheel[ffmpeg,numpy]"
if [[ -z ${1:-} ]]; then
    DEEPFORCING_FFMPEG=$(ls "$work"/venv/lib/python3*/site-packages/imageio_ffmpeg/binaries/ffmpeg-*)
    cp "$DEEPFORCING_FFMPEG" "$work/ffmpeg"
    export DEEPFORCING_FFMPEG=$work/ffmpeg
fi
say "installed in $((SECONDS - mark)) s: $(du -sh "$work/venv/bin/deepforcing" | cut -f1) program"

# It starts after the environment was moved, which breaks only scripts that name their interpreter.
mv "$work/venv" "$work/moved"
mark=$SECONDS
"$work/moved/bin/deepforcing" generate "a red ball bouncing over green hills" --model toy --seconds 1 -o "$work/ball.mp4"
say "first video in $((SECONDS - mark)) s"
"$work/moved/bin/deepforcing" inspect "$work/ball.mp4" | head -n 3
mv "$work/moved" "$work/venv"

# The environment may not be written to: nothing is put into it.
chmod -R a-w "$work/venv/lib" && "$work/venv/bin/deepforcing" --version && chmod -R u+w "$work/venv/lib"

mark=$SECONDS
"$work/venv/bin/pip" install --quiet pytest nbconvert ipykernel
say "tools of the test installed in $((SECONDS - mark)) s"
mark=$SECONDS
# Away from the sources, so that the installed module is the one that is imported.
(cd "$work" && "$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$OLDPWD/python/tests")
say "module and node in $((SECONDS - mark)) s"

mark=$SECONDS
cp python/example.ipynb "$work/example.ipynb"
(cd "$work" && PATH=$work/venv/bin:$PATH "$work/venv/bin/jupyter" nbconvert --to notebook --execute \
    --output executed.ipynb example.ipynb >"$work/notebook.log" 2>&1) || { cat "$work/notebook.log"; exit 1; }
grep -q '<video' "$work/executed.ipynb" || { say "the notebook shows no video"; exit 1; }
say "notebook in $((SECONDS - mark)) s"
say "all in $((SECONDS - began)) s"

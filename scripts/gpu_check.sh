#!/bin/bash
# Checks and measures a machine with a GPU in one call of less than nine minutes: reference cases in f32 and bf16, a
# rollout with events against the CPU, a 240-latent-frame Deep Forcing rollout at full size, speed stage by stage, and the
# same network in PyTorch beside it.
#
#   scripts/gpu_check.sh --pack                     build the programs (needs cargo and a CUDA toolkit) into target/gpu-check
#   scripts/gpu_check.sh                            run everything; builds first if nothing is packed
#   scripts/gpu_check.sh --device cpu --quick       the same steps at small size on the CPU: a test of this script
#
# A machine without cargo needs a copy of the repository with target/gpu-check, bash and, for PyTorch and the summary,
# python3. Results: JSON, logs and summary.txt in benches/results/MACHINE-DATE (or --out DIR).
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1

device=cuda quick=0 pack=0 out= programs=target/gpu-check budget=530 features=
python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift ;;
        --quick) quick=1 ;;
        --pack) pack=1 ;;
        --out) out=$2; shift ;;
        --programs) programs=$2; shift ;;
        --features) features=$2; shift ;;
        --budget) budget=$2; shift ;;
        -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "gpu_check: unknown argument $1; --help tells what there is" >&2; exit 2 ;;
    esac
    shift
done
if [ -z "$features" ] && [ "$device" != cpu ]; then features=cuda,cudnn; fi

# The programs, where they are packed.
pack() {
    local flags=(--release) messages test
    [ -n "$features" ] && flags+=(--features "$features")
    [ -n "${GPU_CHECK_NO_FFMPEG:-}" ] && flags+=(--no-default-features --features "bundled-model,$features")
    cargo build "${flags[@]}" || return 1
    messages=$(cargo test "${flags[@]}" --test golden --no-run --message-format=json) || return 1
    test=$(echo "$messages" | grep -o '"executable":"[^"]*golden-[^"]*"' | tail -1 | cut -d'"' -f4)
    mkdir -p "$programs"
    cp "${CARGO_TARGET_DIR:-target}/release/deepforcing" "$programs/deepforcing" && cp "$test" "$programs/golden" || return 1
    git rev-parse HEAD >"$programs/commit" 2>/dev/null
    strip "$programs/deepforcing" "$programs/golden" 2>/dev/null
    ls -l "$programs"
}
if [ "$pack" = 1 ] || [ ! -x "$programs/deepforcing" ] || [ ! -x "$programs/golden" ]; then
    pack || { echo "gpu_check: the programs could not be built" >&2; exit 1; }
    [ "$pack" = 1 ] && exit 0
fi

# CUDA's libraries: those of a PyTorch are enough.
if command -v "$python" >/dev/null; then
    libraries=$("$python" -c 'import glob, site, sys
folders = site.getsitepackages() + [site.getusersitepackages()]
print(":".join(path for folder in folders for path in glob.glob(folder + "/nvidia/*/lib")))' 2>/dev/null)
fi
export LD_LIBRARY_PATH=${libraries:-}:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}

if [ "$device" = cpu ]; then
    machine=$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)
else
    machine=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
fi
machine=$(echo "${machine:-unknown}" | tr -cs 'A-Za-z0-9\n' '-' | sed 's/^-//; s/-$//')
out=${out:-benches/results/$machine-$(date +%Y-%m-%d)}
mkdir -p "$out" || exit 1
begun=$SECONDS
summary=$out/summary.txt
commit=$(cat "$programs/commit" 2>/dev/null || git rev-parse HEAD 2>/dev/null || echo unknown)
{
    echo "machine  $machine"
    echo "date     $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    echo "commit   $commit"
    echo "driver   $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1 || true)"
    echo "system   $(uname -sr)"
    echo
} >"$summary"
failed=0

# step NAME SECONDS COMMAND...: stdout to NAME.json or NAME.txt, stderr to NAME.log.
step() {
    local name=$1 limit=$2 left status start=$SECONDS file
    shift 2
    left=$((budget - SECONDS + begun))
    if [ "$left" -lt 5 ]; then
        printf '%-22s skipped: no time left\n' "$name" | tee -a "$summary"
        failed=1
        return
    fi
    [ "$limit" -gt "$left" ] && limit=$left
    file=$out/$name.txt
    case " $* " in *" --json "*) file=$out/$name.json ;; esac
    timeout "$limit" "$@" >"$file" 2>"$out/$name.log"
    status=$?
    case $status in
        0) status=passed ;;
        124) status="FAILED: longer than $limit s" failed=1 ;;
        *) status="FAILED: exit code $status: $(tail -1 "$out/$name.log" | cut -c1-160)" failed=1 ;;
    esac
    [ -s "$out/$name.log" ] || rm -f "$out/$name.log"
    printf '%-22s %4d s  %s\n' "$name" $((SECONDS - start)) "$status" | tee -a "$summary"
}

program=$programs/deepforcing
# Settings of this machine must not change what is measured.
unset ${!DEEPFORCING_@}
export DEEPFORCING_CONFIG=/dev/null
dtypes="f32 bf16"
[ "$device" = cpu ] && dtypes=f32
random=(--random-weights --preset deep-forcing --device "$device" --json)
torch=(--device "$device" --window 21)
if [ "$quick" = 1 ]; then
    random+=(--scale tiny)
    long=24 short=10 torch+=(--size tiny --rounds 2 --repeats 3)
else
    long=80 short=16 torch+=(--size full --rounds 3 --repeats 5)
fi
[ "$device" != cpu ] && torch+=(--dtype bf16)

# Exit code 1 says that something is missing, such as an encoder in a build without FFmpeg; the report says what.
step doctor 30 bash -c '"$0" -q doctor --json || [ $? = 1 ]' "$program" --json
for dtype in $dtypes; do
    step "golden-$dtype" 120 env DEEPFORCING_GOLDEN=tests/golden DEEPFORCING_TEST_DEVICE="$device" \
        DEEPFORCING_TEST_DTYPE="$dtype" "$programs/golden"
    step "parity-$dtype" 60 "$program" -q bench --parity --device "$device" --dtype "$dtype" --json
    step "parity-paper-$dtype" 60 "$program" -q bench --parity --device "$device" --dtype "$dtype" --positions paper --json
done
step bench-tae 90 "$program" -q bench "${random[@]}" --vae tae --chunks "$short"
step bench-wan 120 "$program" -q bench "${random[@]}" --vae wan --chunks "$short"
step bench-window 60 "$program" -q bench "${random[@]}" --vae none --policy deep-sink --chunks "$short"
step rollout-240 200 "$program" -q bench "${random[@]}" --vae tae --no-encode --stages-only --chunks "$long"
if "$python" -c 'import torch' 2>/dev/null; then
    step torch 90 "$python" benches/compare_transformer.py "${torch[@]}" --json "$out/torch.json"
    step torch-compiled 120 "$python" benches/compare_transformer.py "${torch[@]}" --compile --json "$out/torch-compiled.json"
else
    echo "torch                  skipped: $python has no PyTorch" | tee -a "$summary"
fi
if command -v "$python" >/dev/null; then
    "$python" benches/summarize.py "$out" | tee -a "$summary"
    [ "${PIPESTATUS[0]}" = 0 ] || failed=1
fi
echo "results are in $out ($((SECONDS - begun)) s)"
exit $failed

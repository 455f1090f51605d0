#!/usr/bin/env bash
# Renders a list in a real Slurm job array (configs/cluster/batch.sbatch) on a cluster of one node that it starts and
# takes down again: slurmctld, slurmd and munge from Debian's packages. Needs root; takes about a minute.
#
#   scripts/slurm_test.sh [PROGRAM]          the program is target/debug/deepforcing if none is named
#
# Checked: the parts of the array make the whole list and nothing twice; an array that is interrupted in the middle and
# submitted again makes the rest and nothing twice; every file is the one that its manifest describes.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
program=$(realpath "${1:-target/debug/deepforcing}")

say() { printf 'slurm_test: %s\n' "$*"; }
fail() { printf 'slurm_test: %s\n' "$*" >&2; exit 1; }

[[ $(id -u) -eq 0 ]] || fail "run it as root: it installs packages and starts daemons"
[[ -x $program ]] || fail "there is no program \`$program\`; build it with: cargo build"

if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    say "installing slurmctld, slurmd, slurm-client and munge"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        slurmctld slurmd slurm-client munge >/dev/null
fi

# Not in a folder of the user: the daemons accept sockets and keys only below folders that nobody else can write.
dir=$(mktemp -d /run/deepforcing-slurm.XXXXXX)
daemons=()
take_down() {
    local status=$?
    if [[ $status -ne 0 ]]; then
        tail -n 20 "$dir"/*.log "$dir"/tasks/*.log >&2 2>/dev/null || true
    fi
    command -v scancel >/dev/null && [[ ${#daemons[@]} -gt 0 ]] && scancel --user=root 2>/dev/null || true
    local at
    for ((at = ${#daemons[@]} - 1; at >= 0; at--)); do
        kill "${daemons[$at]}" 2>/dev/null || true
        wait "${daemons[$at]}" 2>/dev/null || true
    done
    rm -rf "$dir"
    exit "$status"
}
trap take_down EXIT
trap 'exit 130' INT TERM

node=$(hostname -s)
mkdir -m 0755 "$dir/munge" "$dir/state" "$dir/spool" "$dir/tasks"
chmod 0755 "$dir"
cat >"$dir/slurm.conf" <<END
ClusterName=deepforcing-test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
KillWait=10
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$dir/slurm.conf

start() { # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 &
    daemons+=($!)
}

head -c 1024 /dev/urandom >"$dir/munge/key"
chmod 0400 "$dir/munge/key"
start munged munged --foreground --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
    --pid-file="$dir/munge/pid" --seed-file="$dir/munge/seed" --log-file="$dir/munged-own.log"
for _ in {1..50}; do [[ -S $dir/munge/socket ]] && break; sleep 0.1; done
start slurmctld slurmctld -D
start slurmd slurmd -D -N "$node"
for _ in {1..60}; do
    [[ $(sinfo -h -o %T 2>/dev/null) == idle ]] && break
    sleep 0.5
done
[[ $(sinfo -h -o %T) == idle ]] || fail "the node does not come up"
say "$(sinfo --version): node $(sinfo -h -o '%n with %c CPUs is %T')"

cd "$dir/tasks"
printf '%s\n' "a red ball over the sea" "a blue cube in the desert" "a green heart over the city" \
    "a yellow star in the mountains" "a big orange balloon at night" >prompts.txt
ln -s "$program" "$dir/deepforcing"
export PATH="$dir:$PATH" DEEPFORCING_CACHE="$dir/cache" DEEPFORCING_CONFIG=/dev/null HF_HUB_OFFLINE=1

submit() { # ARRAY FOLDER MORE...
    local array=$1 folder=$2
    shift 2
    sbatch --parsable --array="$array" --cpus-per-task=1 --mem=0 --time=10 "$here/configs/cluster/batch.sbatch" \
        prompts.txt "$folder" --model toy "$@"
}

wait_for() { # JOB
    for _ in {1..600}; do
        [[ -z $(squeue -h -j "$1" 2>/dev/null) ]] && return
        sleep 0.5
    done
    fail "job $1 does not end"
}

rendered() { # JOB FOLDER: the videos that its tasks say they have rendered
    sed -n "s|^\($2/.*\.mp4\)\$|\1|p" deepforcing-"$1"_*.log | sort
}

check() { # FOLDER COUNT: all is there, once, and as the manifests say
    local listed hashes
    listed=$(cat "$1"/manifest*.jsonl | sed -n 's/^{"file":"\([^"]*\)".*/\1/p' | sort)
    [[ $(wc -l <<<"$listed") -eq $2 && -z $(uniq -d <<<"$listed") ]] || fail "the manifests list: $listed"
    hashes=$(cat "$1"/manifest*.jsonl | sed -n 's/^{"file":"\([^"]*\)","key":"[^"]*","sha256":"\([0-9a-f]*\)".*/\2  \1/p')
    (cd "$1" && sha256sum --quiet --check - <<<"$hashes") || fail "files are not those of the manifests"
    [[ $(find "$1" -name '*.mp4' | wc -l) -eq $2 ]] || fail "there are other files than $2 videos"
}

# 5 prompts, 2 samples each, 4 tasks of which two run at a time.
job=$(submit 0-3 whole --seconds 1 --samples 2)
wait_for "$job"
check whole 10
[[ $(rendered "$job" whole | wc -l) -eq 10 && -z $(rendered "$job" whole | uniq -d) ]] || fail "rendered twice"
parts=$(find whole -name 'manifest-*-of-4.jsonl' | wc -l)
[[ $parts -eq 4 ]] || fail "there are $parts manifests, not 4"
say "job $job: 4 tasks made 10 videos, none twice"

# Interrupted as by the signal before a time limit, while videos are in work; a task array with a step and a first
# number other than 0 at that.
job=$(submit 1-3:2 resumed --seconds 8 --samples 2)
for _ in {1..600}; do
    [[ $(cat resumed/manifest-*.jsonl 2>/dev/null | wc -l) -ge 3 ]] && break
    sleep 0.1
done
scancel --signal=INT --batch "$job"
wait_for "$job"
first=$(rendered "$job" resumed)
count=$(wc -l <<<"$first")
[[ $count -ge 3 && $count -lt 10 ]] || fail "$count videos before the interruption"
grep -q "goes on where it was" deepforcing-"$job"_*.log || fail "no task was interrupted"
again=$(submit 1-3:2 resumed --seconds 8 --samples 2)
wait_for "$again"
check resumed 10
all=$(printf '%s\n%s\n' "$first" "$(rendered "$again" resumed)" | sort)
[[ $(wc -l <<<"$all") -eq 10 && -z $(uniq -d <<<"$all") ]] || fail "rendered twice: $all"
say "job $job was interrupted after $count videos; job $again made the other $((10 - count))"
say "all is as it should be"

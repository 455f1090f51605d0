"""All stages in order, from nothing to exported and evaluated files; started again, it goes on where it stopped.

On a CPU every training stage runs as two workers, on a GPU as one process; the world is rendered on all cores, short clips
beside the training of the autoencoder where that has a GPU. `--minutes` is the training time of all stages together;
rendering, encoding and evaluation come on top.
"""

import os
import subprocess
import sys
from typing import NamedTuple

from common import stage_arguments

HERE = os.path.dirname(os.path.abspath(__file__))
SHARES = {"train_vae.py": 0.32, "train_dit.py": 0.42, "train_fewstep.py": 0.10, "train_decoder.py": 0.11, "judge.py": 0.05}
OPENING = 0.12  # share of the transformer's time on first chunks only


class Stage(NamedTuple):
    line: list            # command line
    done: str = ""        # a file whose existence means that nothing is left to do
    beside: bool = False  # need not be over before the next stage begins, only before the next one that `waits`
    waits: bool = False


def stages(args):
    """All stages in order."""
    shared = ["--data", args.data, "--runs", args.runs, "--preset", args.preset]
    warm = ["--begin-from", args.begin_from, "--peak", "0.5"] if args.begin_from else []
    gpu = args.device != "cpu"

    def alone(script, *more):
        return [sys.executable, f"{HERE}/{script}", *shared, "--device", args.device, *more]

    def several(processes, line):
        return line if processes == 1 else [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), *line[1:]]

    def together(script, *more):
        budget = ["--minutes", f"{SHARES[script] * args.minutes:.3f}"] if script in SHARES else []
        return several(1 if gpu else args.workers, alone(script, *budget, *more))

    def rendering(kind):  # on the processor's cores in any case
        line = [sys.executable, f"{HERE}/render_clips.py", *shared, "--kinds", kind]
        return several(os.cpu_count() if gpu else args.workers, line)

    yield Stage(rendering("clips"))
    yield Stage(rendering("visits"))
    yield Stage(rendering("starts"), beside=gpu)
    yield Stage([sys.executable, f"{HERE}/tokenizer.py", "--out", f"{args.runs}/tokenizer.json"], done=f"{args.runs}/tokenizer.json")
    yield Stage(together("train_vae.py", *warm))
    yield Stage(together("encode_latents.py"), done=f"{args.runs}/latents.pt", waits=True)
    yield Stage(together("train_dit.py", "--first-minutes", f"{OPENING * SHARES['train_dit.py'] * args.minutes:.3f}", *warm))
    for script in ("train_fewstep.py", "train_decoder.py", "judge.py"):
        yield Stage(together(script))
    yield Stage(alone("export.py", "--out", args.out))
    yield Stage(alone("evaluate.py", "--weights", args.out, "--out", f"{args.runs}/evaluation", *args.evaluation.split()))


def main():
    parser = stage_arguments(__doc__.split("\n")[0], minutes=120)
    parser.add_argument("--workers", type=int, default=2, help="processes of a stage on a CPU")
    parser.add_argument("--out", default="out", help="folder for the exported files")
    parser.add_argument("--begin-from", help="folder of exported files to start from, instead of from nothing")
    parser.add_argument("--evaluation", default="", help="further arguments of evaluate.py, in one string")
    args = parser.parse_args()
    os.makedirs(args.runs, exist_ok=True)
    running = []
    for stage in stages(args):
        if stage.done and os.path.exists(stage.done):
            continue
        print("+", " ".join(stage.line), flush=True)
        process = subprocess.Popen(stage.line)
        running.append(process)
        if stage.beside:
            continue
        for process in running if stage.waits else [process]:
            if process.wait():
                sys.exit(f"a stage failed with exit code {process.returncode}: {' '.join(process.args)}")


if __name__ == "__main__":
    main()

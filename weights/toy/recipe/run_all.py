"""All stages in order, from nothing to exported and evaluated files; started again, it goes on where it stopped.

On a CPU every training stage runs as two workers, on a GPU as one process. `--minutes` is the training time of all
stages together; rendering, encoding and evaluation come on top.
"""

import os
import subprocess
import sys

from common import stage_arguments

HERE = os.path.dirname(os.path.abspath(__file__))
SHARES = {"train_vae.py": 0.32, "train_dit.py": 0.42, "train_fewstep.py": 0.10, "train_decoder.py": 0.11, "judge.py": 0.05}
OPENING = 0.12  # share of the transformer's time on first chunks only


def stages(args):
    """(file whose existence means that a stage is done, or None; its command line), in order."""
    shared = ["--data", args.data, "--runs", args.runs, "--preset", args.preset, "--device", args.device]
    warm = ["--begin-from", args.begin_from, "--peak", "0.5"] if args.begin_from else []
    several = args.device == "cpu" and args.workers > 1

    def alone(script, *more):
        return [sys.executable, f"{HERE}/{script}", *shared, *more]

    def together(script, *more):
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(args.workers)] if several else []
        budget = ["--minutes", f"{SHARES[script] * args.minutes:.3f}"] if script in SHARES else []
        return [sys.executable, *launcher, *alone(script, *budget, *more)[1:]]

    yield None, together("render_clips.py")
    yield f"{args.runs}/tokenizer.json", [sys.executable, f"{HERE}/tokenizer.py", "--out", f"{args.runs}/tokenizer.json"]
    yield None, together("train_vae.py", *warm)
    yield f"{args.runs}/latents.pt", together("encode_latents.py")
    yield None, together("train_dit.py", "--first-minutes", f"{OPENING * SHARES['train_dit.py'] * args.minutes:.3f}", *warm)
    for script in ("train_fewstep.py", "train_decoder.py", "judge.py"):
        yield None, together(script)
    yield None, alone("export.py", "--out", args.out)
    yield None, alone("evaluate.py", "--weights", args.out, "--out", f"{args.runs}/evaluation", *args.evaluation.split())


def main():
    parser = stage_arguments(__doc__.split("\n")[0], minutes=120)
    parser.add_argument("--workers", type=int, default=2, help="processes of a stage on a CPU")
    parser.add_argument("--out", default="out", help="folder for the exported files")
    parser.add_argument("--begin-from", help="folder of exported files to start from, instead of from nothing")
    parser.add_argument("--evaluation", default="", help="further arguments of evaluate.py, in one string")
    args = parser.parse_args()
    os.makedirs(args.runs, exist_ok=True)
    for done, line in stages(args):
        if done and os.path.exists(done):
            continue
        print("+", " ".join(line), flush=True)
        subprocess.run(line, check=True)


if __name__ == "__main__":
    main()

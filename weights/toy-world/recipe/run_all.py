"""All stages in order, from the committed text toy to exported files; started again, it goes on where it stopped.

    python run_all.py                                       # on a CPU
    python run_all.py --preset gpu --device cuda            # on one GPU
"""

import argparse
import os
import subprocess
import sys

from sizes import HERE, PRESETS

TUNED = os.path.join(HERE, "..", "unfinished")  # the autoencoder as far as it has been trained


def stages(args):
    """Command lines that run one after the other; each goes on where it stopped, and is over at once when nothing is left to do."""
    python = lambda script, *more: [sys.executable, os.path.join(HERE, script), "--preset", args.preset, *more]
    device, runs, data = ["--device", args.device], ["--runs", args.runs], ["--data", args.data]
    threads = ["--threads", str(args.threads)]
    yield [python("render_walks.py", *data, "--worker", f"{worker}/{args.workers}") for worker in range(args.workers)]
    yield [python("train_autoencoder.py", *data, *runs, *device, "--minutes", str(args.autoencoder_minutes), "--begin-from", args.autoencoder)]
    yield [python("encode_walks.py", *data, *runs, *device)]
    yield [python("train_world.py", *runs, *device, *threads, "--steps", str(args.steps), "--begin-from", args.begin_from)]
    yield [python("train_world_fewstep.py", *runs, *device, *threads, "--steps", str(args.few_steps))]
    yield [python("export_world.py", *runs, "--out", args.out)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--out", default="out", help="folder for the exported files")
    parser.add_argument("--preset", default="cpu", choices=PRESETS)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that render")
    parser.add_argument("--threads", type=int, default=2, help="of the training on a CPU")
    parser.add_argument("--autoencoder", default=TUNED, help="folder of exported files whose autoencoder is trained further")
    parser.add_argument("--autoencoder-minutes", type=float, default=30, help="0: it is kept as it is")
    parser.add_argument("--steps", type=int, default=12000, help="of the transformer")
    parser.add_argument("--few-steps", type=int, default=1200)
    parser.add_argument("--begin-from", default="toy", help="what the transformer begins with: 'toy', the text toy's weights, or a folder of exported files")
    args = parser.parse_args()
    os.makedirs(args.runs, exist_ok=True)
    for lines in stages(args):
        running = []
        for line in lines:
            print("+", " ".join(line), flush=True)
            running.append(subprocess.Popen(line))
        for process in running:
            if process.wait():
                sys.exit(f"a stage failed with exit code {process.returncode}: {' '.join(process.args)}")


if __name__ == "__main__":
    main()

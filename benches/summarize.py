"""The numbers of a folder that scripts/gpu_check.sh has written, in a few lines; exit code 1 when memory grew.

    python3 benches/summarize.py benches/results/MACHINE-DATE
"""

import json
import statistics
import sys
from pathlib import Path

# Bytes by which memory may grow over the steady state of a long rollout: of a GPU, where all is preallocated, and of the
# machine, whose allocator keeps what it likes.
DEVICE_GROWTH, HOST_GROWTH = 64_000_000, 200_000_000


def read(folder, name):
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def speed(name, bench):
    steady, run = bench["steady"], bench.get("side-by-side")
    together = f", {run['fps']:.2f} side by side" if run else ""
    print(
        f"{name:22} {steady['denoise-fps']:.2f} pictures/s denoising, {steady['fps']:.2f} in all{together}; "
        f"{steady['tflops']:.3g} TFLOP/s = {100 * steady['of-ceiling']:.1f} % of {bench['ceiling']['tflops']:.3g}; "
        f"first picture {bench['cold-start']['first-picture-seconds']:.1f} s"
    )
    writes, memory = bench["cache-writes"], bench["memory"]
    event, plain = writes.get("with-event"), writes.get("without-event")
    told = f"{'':22} cache write {event:.2f} ms with an event" if event is not None else f"{'':22} no event"
    told += f", {plain:.2f} ms without" if plain is not None else ""
    peak = memory.get("device-peak") or memory.get("host-peak")
    print(told + (f"; peak memory {peak / 1e9:.2f} GB" if peak else ""))


def flat(bench):
    memory = bench["memory"]
    for key, most in (("device-growth", DEVICE_GROWTH), ("host-growth", HOST_GROWTH)):
        growth = memory.get(key)
        if growth is not None:
            fine = growth <= most
            word = "flat" if fine else "GROWS"
            chunks = len(bench["chunks"])
            print(f"{'memory':22} {word}: {growth / 1e6:+.1f} MB ({key}) over {chunks} chunks, allowed {most / 1e6:.0f}")
            return fine
    return True


def forward(bench):
    """Median of the denoising steps that neither make room nor attend to less than the whole window, in ms."""
    window = bench["cache"]["window"]
    steps = [time for chunk in bench["chunks"] if chunk["attended"] == window for time in chunk["steps"][1:]]
    return statistics.median(steps) if steps else None


def main():
    folder = Path(sys.argv[1])
    print()
    for name in ("bench-tae", "bench-wan", "bench-window", "rollout-240"):
        bench = read(folder, name)
        if bench:
            speed(name, bench)
    window = read(folder, "bench-window")
    ours = forward(window) if window else None
    for name in ("torch", "torch-compiled"):
        theirs = read(folder, name)
        if ours and theirs:
            time = theirs["milliseconds"]["torch forward"]["median"]
            how = "compiled" if theirs["compiled"] else "not compiled"
            print(f"{name:22} a denoising step takes {ours:.2f} ms here, {time:.2f} ms in PyTorch ({how}): {time / ours:.2f}x")
    rollout = read(folder, "rollout-240")
    fine = flat(rollout) if rollout else True
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()

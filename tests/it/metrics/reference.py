"""Values of the metrics by their formulas, in numpy: `python3 tests/metrics/reference.py > tests/metrics/reference.json`.

Written from the formulas (VBench's temporal_flickering.py for the flickering), not from the Rust code. Motion and what
follows from it are left out: block matching has no reference but its own code.
"""

import json
import re

import numpy as np

SINK, GAP, FAR, CHUNK = 5, 2.0, 8.0, 12


def clip(width, height, pictures):
    """The same integers as `clips::reference` in Rust."""
    y, x = np.mgrid[0:height, 0:width]
    frames = []
    for t in range(pictures):
        channels = [(x * x * 3 + y * y * 5 + x * y * (2 + c) + t * (11 + 3 * c)) % 256 * (64 - t) // 64 for c in range(3)]
        frames.append(np.stack(channels, axis=-1).astype(np.uint8))
    return frames


def flickering(frames):
    pairs = zip(frames[1:], frames)
    mean = np.mean([np.mean(np.abs(a.astype(np.float32) - b.astype(np.float32)), dtype=np.float64) for a, b in pairs])
    return (255.0 - mean) / 255.0


def reduced(frame):
    k = max(1, -(-min(frame.shape[:2]) // 256))
    h, w = frame.shape[0] // k, frame.shape[1] // k
    blocks = frame[: h * k, : w * k].reshape(h, k, w, k, 3).astype(np.int64).sum(axis=(1, 3))
    return (blocks + k * k // 2) // (k * k)


def lab(frame):
    v = reduced(frame) / 255.0
    light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    t = light @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def luma(frame):
    r, g, b = np.moveaxis(frame.astype(np.int64), -1, 0)
    return (54 * r + 183 * g + 19 * b + 128) >> 8


def sharpness(frame):
    y = luma(frame)
    return np.var(4 * y[1:-1, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:] - y[:-2, 1:-1] - y[2:, 1:-1])


def histogram(frames):
    counts = sum(np.bincount(luma(frame).ravel(), minlength=256) for frame in frames)
    return counts / counts.sum()


def histogram_distance(a, b):
    return np.abs(np.cumsum(histogram(a)) - np.cumsum(histogram(b))).sum()


def colour(frames):
    return np.mean([lab(frame).reshape(-1, 3).mean(axis=0) for frame in frames], axis=0)


def pictures(frames):
    """Means over the pictures, by themselves."""
    chroma = [np.hypot(values[..., 1], values[..., 2]).mean() for values in map(lab, frames)]
    return {
        "brightness": colour(frames)[0],
        "contrast": np.mean([lab(frame)[..., 0].std() for frame in frames]),
        "saturation": np.mean(chroma),
        "sharpness": np.mean([sharpness(frame) for frame in frames]),
    }


def thumbnail(frame):
    work = reduced(frame)
    rows = [slice(i * work.shape[0] // 8, (i + 1) * work.shape[0] // 8) for i in range(8)]
    columns = [slice(i * work.shape[1] // 8, (i + 1) * work.shape[1] // 8) for i in range(8)]
    return np.array([[work[row, column].reshape(-1, 3).mean(axis=0) for column in columns] for row in rows])


def similarities(frames, fps):
    """Per picture: to the sink, to all kept, whether it has returned."""
    thumbnails = [thumbnail(frame) for frame in frames]
    apart = lambda a, b: np.sqrt(np.mean((thumbnails[a] - thumbnails[b]) ** 2))
    kept = [at for at in range(len(frames)) if at < SINK or at % max(1, round(fps / 4)) == 0]
    other = lambda a, b: np.sum(np.mean((thumbnails[a] - thumbnails[b]) ** 2, axis=2) >= FAR**2)
    sink, earlier, back = [], [], []
    for now in range(len(frames)):
        old = [at for at in kept if now - at >= GAP * fps]
        if not old:
            continue
        sink.append(1 - min(apart(at, now) for at in old if at < SINK) / 255)
        earlier.append(1 - min(apart(at, now) for at in old) / 255)
        farthest = lambda at: max(apart(at, between) for between in range(at + 1, now))
        changed = lambda at: max(other(at, between) for between in range(at + 1, now)) >= 32
        back.append(any(farthest(at) >= FAR and changed(at) and 4 * apart(at, now) <= farthest(at) for at in old))
    # How a return begins matters only where there is one that is long enough; none of the clips has one.
    assert not re.search("1" * CHUNK, "".join("01"[it] for it in back)), "the clip rolls back"
    return {"sink_similarity": np.mean(sink), "earlier_similarity": np.mean(earlier), "rolled_back": 0.0}


def values(width, height, count, fps):
    frames = clip(width, height, count)
    window = min(count, round(5 * fps))
    first, last = frames[:window], frames[-window:]
    parts = {"whole": frames, "first": first, "last": last}
    seconds = [frames[int(s * fps) : int((s + 1) * fps)] for s in range(-(-count // int(fps)))]
    drift = [np.linalg.norm(colour(second) - colour(first)) for second in seconds]
    weights = np.array([len(second) for second in seconds])
    middles = (np.arange(len(seconds)) + 0.5 * weights / fps) / 60
    metrics = {
        name: {"temporal_flickering": flickering(part), **pictures(part)} for name, part in parts.items()
    }
    metrics["whole"] |= {
        "colour_drift": np.mean(drift),
        "luma_histogram_distance": np.mean([histogram_distance(second, first) for second in seconds]),
    }
    if len(seconds) > 1:
        metrics["whole"]["colour_drift_slope"] = np.polyfit(middles, drift, 1, w=np.sqrt(weights))[0]
    if count > GAP * fps:
        metrics["whole"] |= similarities(frames, fps)
    metrics["change"] = {
        "colour_drift": np.linalg.norm(colour(last) - colour(first)),
        "luma_histogram_distance": histogram_distance(last, first),
    }
    return {"width": width, "height": height, "pictures": count, "fps": fps, "sink_pictures": SINK, "values": metrics}


if __name__ == "__main__":
    cases = [values(40, 24, 33, 4.0), values(33, 19, 50, 8.0), values(523, 301, 3, 16.0)]
    print(json.dumps(cases, indent=1, default=float))

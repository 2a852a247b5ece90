"""Measures how the cost of PatchClassifier grows with the image and with the number of labels.

    python benchmarks/growth.py [--sweep image_side labels] [--batch-size N] [--quick] [--out FILE]

For each configuration, in a process of its own: milliseconds an image of a training step and of
a prediction (median; wall time), and by how much the peak memory of the process (ru_maxrss)
exceeds that after the imports. A line of CSV is written as soon as it is known, and a
configuration whose line is there is not measured again: start it again after an interruption,
remove lines to repeat them. Each sweep is plotted beside the CSV.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time

# The process that starts the others imports nothing large: a new process inherits its peak memory.

SWEEPS = {
    "image_side": {
        "fixed": {"labels": 20, "patch_size": 64, "batch_size": 4},
        "values": (128, 256, 384, 640, 960, 1280),
        "quick": (128, 256),
    },
    "labels": {
        "fixed": {"image_side": 64, "patch_size": 16, "batch_size": 16},
        "values": (20, 80, 400, 2000),
        "quick": (20, 80),
    },
}
SETTINGS = ("image_side", "patch_size", "labels", "batch_size")
MEASURED = (
    "patches",
    "train_ms_an_image",
    "predict_ms_an_image",
    "train_peak_mib",
    "predict_peak_mib",
    "imports_mib",
    "train_steps",
    "predict_steps",
)
ORIGIN = ("machine", "python", "backend", "backend_version", "keras", "commit", "command")
FIELDS = ("sweep", *SETTINGS, *MEASURED, *ORIGIN)
SECONDS = 20  # of repeats at most, after the third


# === One configuration, in a process of its own ===


def peak_mib():
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def time_calls(function):
    """Seconds of each call, after two calls that may compile: 3 to 20 of them."""
    seconds = []
    for call in range(22):
        start = time.perf_counter()
        function()
        if call >= 2:
            seconds.append(time.perf_counter() - start)
        if len(seconds) >= 3 and sum(seconds) > SECONDS:
            break
    return seconds


def measure(setting):
    """Dict of the fields `MEASURED` and of the versions."""
    import importlib.metadata

    import keras
    import numpy as np

    from keras_patchpu.losses import WeakNegative
    from keras_patchpu.models import PatchClassifier
    from keras_patchpu.optimizers import Lamb

    imports = peak_mib()
    keras.utils.set_random_seed(0)
    batch_size, side, labels = setting["batch_size"], setting["image_side"], setting["labels"]
    model = PatchClassifier(labels, (side, side), setting["patch_size"])
    model.compile(Lamb(1e-3, weight_decay=1e-4), WeakNegative())
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, side, side, 3), dtype="uint8")
    observed = np.zeros((batch_size, labels), "int8")
    observed[np.arange(batch_size), random.integers(0, labels, batch_size)] = 1

    # Prediction first: the peak of training is above it.
    predict = time_calls(lambda: model.predict_on_batch(images))
    predict_peak = peak_mib()
    train = time_calls(lambda: model.train_on_batch(images, observed))
    backend = keras.backend.backend()
    return {
        "patches": len(model.patch_boxes),
        "train_ms_an_image": round(statistics.median(train) * 1e3 / batch_size, 3),
        "predict_ms_an_image": round(statistics.median(predict) * 1e3 / batch_size, 3),
        "train_peak_mib": round(peak_mib() - imports, 1),
        "predict_peak_mib": round(predict_peak - imports, 1),
        "imports_mib": round(imports, 1),
        "train_steps": len(train),
        "predict_steps": len(predict),
        "backend": backend,
        "backend_version": importlib.metadata.version(backend),
        "keras": keras.__version__,
    }


# === All configurations ===


def configurations(sweeps, batch_size, quick):
    """Dicts of the fields `sweep` and `SETTINGS`, the cheapest of a sweep first."""
    for name in sweeps:
        sweep = SWEEPS[name]
        for value in sweep["quick" if quick else "values"]:
            setting = sweep["fixed"] | {name: value}
            if batch_size:
                setting["batch_size"] = batch_size
            yield {"sweep": name} | setting


def key(line):
    """What makes two lines the same configuration."""
    return tuple(str(line[field]) for field in ("sweep", *SETTINGS))


def read(path):
    """The lines of the CSV as dicts of strings."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def append(path, line):
    """Adds a line to the CSV, below a header where the file is new."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        writer.writerow(line)


def commit():
    """The commit that is checked out, with "-dirty" if the package differs from it."""
    here = pathlib.Path(__file__).resolve().parent.parent

    def git(*arguments):
        process = subprocess.run(
            ["git", "-C", here, *arguments], capture_output=True, text=True, check=True
        )
        return process.stdout.strip()

    changed = git("status", "--porcelain", "--", "keras_patchpu")
    return git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def plot(lines, sweep, path):
    """Time and memory over the quantity of the sweep, both axes logarithmic."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    lines = sorted((line for line in lines if line["sweep"] == sweep), key=lambda x: int(x[sweep]))
    ticks = {int(line[sweep]): line[sweep] for line in lines}
    if sweep == "image_side":
        ticks = {int(line[sweep]): f"{line[sweep]}\n({line['patches']})" for line in lines}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    panels = {"ms_an_image": "milliseconds an image", "peak_mib": "peak memory above imports, MiB"}
    for axis, (field, title) in zip(axes, panels.items()):
        for batch_size in sorted({int(line["batch_size"]) for line in lines}):
            chosen = [line for line in lines if int(line["batch_size"]) == batch_size]
            values = [int(line[sweep]) for line in chosen]
            for what, style in (("train", "o-"), ("predict", "s--")):
                numbers = [float(line[f"{what}_{field}"]) for line in chosen]
                axis.plot(values, numbers, style, label=f"{what}, batch {batch_size}")
        axis.set(xscale="log", yscale="log", title=title)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
        axis.minorticks_off()
        axis.set_xlabel("image side, pixels (patches)" if sweep == "image_side" else sweep)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    results = pathlib.Path(__file__).resolve().parent / "results" / "growth.csv"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--batch-size", type=int, help="4 for image_side, 16 for labels if absent")
    parser.add_argument("--quick", action="store_true", help="two small configurations a sweep")
    parser.add_argument("--out", type=pathlib.Path, default=results, help="the CSV")
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return

    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    origin = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "commit": commit(),
        "command": shlex.join(["python", *sys.argv]),
    }
    for setting in configurations(arguments.sweep, arguments.batch_size, arguments.quick):
        if key(setting) in map(key, read(arguments.out)):
            continue
        command = [sys.executable, __file__, "--measure", json.dumps(setting)]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if process.returncode:  # too large for this machine, as a rule: keep the others
            print(f"failed with {process.returncode}: {setting}", file=sys.stderr)
            continue
        measured = json.loads(process.stdout.splitlines()[-1])
        append(arguments.out, setting | measured | origin)
        print({**setting, **{field: measured[field] for field in MEASURED}}, flush=True)
    lines = read(arguments.out)
    for sweep in sorted({line["sweep"] for line in lines}):
        plot(lines, sweep, arguments.out.with_name(f"{arguments.out.stem}_{sweep}.png"))


if __name__ == "__main__":
    main()

"""Trains and predicts in turn for hours in one process: do memory, files or threads grow?

    python benchmarks/soak.py --minutes 120 --output benchmarks/results/soak.csv
    python benchmarks/soak.py --plot benchmarks/results/soak.csv

Each round in one process: a run of `patchpu train` on the digits (losses and networks in turn,
every tenth compiled by XLA) whose folder is then deleted; `patchpu predict` over a folder of 50
JPEG files, every second time with overlays; and one model that lives throughout trains an epoch,
predicts, and tags the folder. Between rounds `keras_patchpu.models.forget_models()`; with
`--keep-graphs` only `keras.backend.clear_session()`, as Keras asks of whoever makes many models in
one process: then TensorFlow keeps the graph of every model that was trained, and memory grows.
After each round a line of CSV. Ends with code 1 if memory, files or threads grew in the second
half, apart from what TensorFlow keeps of programs compiled by XLA; the plot is the .png beside
the CSV.
"""

import argparse
import contextlib
import csv
import ctypes
import gc
import io
import os
import pathlib
import shutil
import sys
import tempfile
import time

import numpy as np

FIELDS = (
    *("seconds", "round", "loss", "network", "xla", "overlays"),
    *("resident_mib", "peak_mib", "allocated_mib", "open_files", "threads", "child_processes"),
    *("python_objects", "figures", "models", "registered_gradients", "temporary_bytes"),
    *("images_trained", "images_predicted"),
)
KINDS = (("wn", "patch"), ("role", "patch"), ("en_scl", "resnet"))
SCENES, VALIDATION, FILES = 320, 96, 50
# With patches of 16 pixels prediction is always compiled by XLA, see README.md.
PATCHES = {"patch_size": 32, "num_downsamples": 1}
GROWTH = 100.0  # MiB an hour over the second half


# === The work of a round ===


class Soak:
    """What is there all the time: the folder of files, and the one model."""

    def __init__(self, folder):
        import keras
        from photographs import write_files

        from keras_patchpu.datasets import load_digit_scenes
        from keras_patchpu.losses import WeakNegative
        from keras_patchpu.models import PatchClassifier
        from keras_patchpu.optimizers import Lamb
        from keras_patchpu.tagging import Tagger

        self.folder = folder
        (folder / "files").mkdir()
        self.files = write_files(folder / "files", FILES)[0]
        keras.utils.set_random_seed(0)
        self.scenes = load_digit_scenes(SCENES)
        self.model = PatchClassifier(10, (64, 64), **PATCHES)
        self.model.compile(Lamb(1e-3, weight_decay=1e-4), WeakNegative(), jit_compile=False)
        self.model.save(folder / "model.keras")
        self.tagger = Tagger(self.model, attention=True)
        self.trained = self.predicted = 0

    def train(self, number, loss, network, xla):
        """A run of two epochs in a folder of its own."""
        from patchpu.commands.train import parse_train_config
        from patchpu.training.run import prepare, run

        output = self.folder / f"run-{number}"
        options = {
            **{"loss": loss, "model": network, "xla": xla, "seed": number, "output": output},
            **{"epochs": 2, "num-train": SCENES, "num-validation": VALIDATION},
            **{name.replace("_", "-"): value for name, value in PATCHES.items()},
            **({"resnet-width": 0.25, "resnet-output-stride": 16} if network == "resnet" else {}),
        }
        config = parse_train_config([f"--{name}={value}" for name, value in options.items()])
        report = run(config, *prepare(config), verbose=0)
        if not (output / "report.md").exists() or report["epochs"] != 2:
            raise RuntimeError(f"{output} is not whole")
        shutil.rmtree(output)
        self.trained += 2 * SCENES
        self.predicted += 3 * VALIDATION  # after each epoch and for the report

    def tag(self, overlays):
        """The command `patchpu predict`."""
        from patchpu.commands.predict import predict

        output, pictures = self.folder / "tags.csv", self.folder / "overlays"
        options = ["--boxes", *(["--overlays", str(pictures)] if overlays else [])]
        with contextlib.redirect_stdout(io.StringIO()):
            predict(
                [f"{self.folder}/model.keras", f"{self.folder}/files", *options]
                + ["--output", str(output)]
            )
        if output.read_text().count("\n") != FILES + 1:
            raise RuntimeError(f"{output} is not whole")
        output.unlink()
        shutil.rmtree(pictures, ignore_errors=True)
        self.predicted += FILES

    def use_model(self):
        """The one model trains an epoch, predicts, and tags the files."""
        observed = self.scenes.labels
        self.model.fit(self.scenes.images, observed, batch_size=16, epochs=1, verbose=0)
        probabilities = self.model.predict(self.scenes.images, batch_size=64, verbose=0)
        tags = list(self.tagger(self.files))
        if not np.isfinite(probabilities).all() or any(found.error for found in tags):
            raise RuntimeError("the model that lives throughout predicts wrong values")
        self.trained += SCENES
        self.predicted += SCENES + FILES

    def round(self, number):
        """One round; returns what was chosen for it."""
        loss, network = KINDS[number % len(KINDS)]
        xla = "always" if number % 10 == 0 else "never"
        overlays = bool(number % 2)
        self.train(number, loss, network, xla)
        self.tag(overlays)
        self.use_model()
        return {"loss": loss, "network": network, "xla": xla, "overlays": int(overlays)}


# === Measuring ===


def measure(folder):
    """What the process holds now, after a collection of garbage. Linux only."""
    import keras
    from matplotlib.figure import Figure

    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    children = pathlib.Path("/proc/self/task").glob("*/children")
    objects = gc.get_objects()
    kinds = [type(item) for item in objects]
    return {
        "resident_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "peak_mib": round(int(status["VmHWM"].split()[0]) / 1024, 1),
        "allocated_mib": round(allocated_mib(), 1),
        "open_files": len(os.listdir("/proc/self/fd")) - 1,  # without that of the listing
        "threads": int(status["Threads"]),
        "child_processes": sum(len(path.read_text().split()) for path in children),
        "python_objects": len(objects),
        "figures": sum(kind is Figure for kind in kinds),
        "models": sum(issubclass(kind, keras.Model) for kind in kinds),
        "temporary_bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
    }


class _Allocated(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 or later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks "
        "keepcost".split()
    ]


def allocated_mib():
    """What is allocated and not freed; resident memory also holds what glibc keeps for later."""
    libc = ctypes.CDLL("libc.so.6")
    libc.mallinfo2.restype = _Allocated
    found = libc.mallinfo2()
    return (found.uordblks + found.hblkhd) / 2**20


def growth(rows):
    """MiB an hour and MiB a round with XLA, of allocated memory over the second half.

    Least squares; without a round with XLA in that half the second is 0.
    """
    half = rows[len(rows) // 2 :]
    if len(half) < 3:
        return 0.0, 0.0
    memory = [float(row["allocated_mib"]) for row in half]
    hours = [float(row["seconds"]) / 3600 for row in half]
    compiled = np.cumsum([row["xla"] in ("on", "always") for row in half])
    columns = np.stack([np.ones(len(half)), hours, compiled], axis=1)
    if len(half) < 4 or compiled[-1] == compiled[0]:
        columns = columns[:, :2]
    _, an_hour, *a_round = np.linalg.lstsq(columns, memory)[0]
    return float(an_hour), float(a_round[0]) if a_round else 0.0


def problems(rows, bound):
    """What grew, as sentences."""
    found = []
    an_hour, _ = growth(rows)
    if an_hour > bound:
        found.append(f"memory grew by {an_hour:.0f} MiB an hour; expected {bound:g} at most")
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    for field in ("open_files", "threads", "child_processes", "figures", "models"):
        before, after = (max(int(row[field]) for row in half) for half in (first or rows, second))
        if after > before:
            found.append(f"{field} grew from {before} in the first half to {after} in the second")
    return found


def plot(path):
    """Draws what a CSV says over time, into a .png beside it."""
    from matplotlib.figure import Figure

    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    minutes = [float(row["seconds"]) / 60 for row in rows]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    memory, counts, work = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1.4))

    def draw(axes, field, scale=1.0, **style):
        axes.plot(minutes, [float(row[field]) * scale for row in rows], **style)

    draw(memory, "peak_mib", label="largest resident memory so far", color="C7", lw=1, ls="--")
    draw(memory, "resident_mib", label="resident memory", color="C0", lw=1)
    draw(memory, "allocated_mib", label="allocated memory", color="C3")
    compiled = [minute for minute, row in zip(minutes, rows) if row["xla"] in ("on", "always")]
    memory.plot(compiled, [0] * len(compiled), "k^", ms=5, clip_on=False, label="round with XLA")
    half = len(rows) // 2
    an_hour, a_round = growth(rows)
    memory.axvspan(minutes[half], minutes[-1], color="C0", alpha=0.06, lw=0)
    memory.set(ylabel="MiB", ylim=(0, None))
    memory.set_title(
        f"{len(rows)} rounds of training and prediction in one process\n"
        f"allocated in the second half (shaded): {an_hour:+.1f} MiB an hour"
        + (f", {a_round:+.1f} a round with XLA" if a_round else ""),
        fontsize=9,
    )
    draw(counts, "open_files", label="open files", color="C1")
    draw(counts, "threads", label="threads", color="C2")
    draw(counts, "models", label="Keras models alive", color="C4")
    draw(counts, "figures", label="figures alive", color="C3")
    counts.set(ylabel="count", ylim=(0, None))
    draw(work, "images_trained", 1e-3, label="images trained, thousands", color="C0")
    draw(work, "images_predicted", 1e-3, label="images predicted, thousands", color="C1")
    work.set(xlabel="minutes", ylim=(0, None))
    for axes in (memory, counts, work):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path.with_suffix(".png"), dpi=110)


def soak(minutes, output, keep_graphs):
    """Works for the minutes, writes the CSV, and returns its rows."""
    import keras

    from keras_patchpu.models import forget_models

    rows = []
    with tempfile.TemporaryDirectory(prefix="soak") as name, open(output, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        folder = pathlib.Path(name)
        work = Soak(folder)
        start = time.perf_counter()
        while time.perf_counter() - start < 60 * minutes:
            chosen = work.round(len(rows))
            gradients = keras.backend.clear_session() if keep_graphs else forget_models()
            gc.collect()  # models and figures refer to themselves
            row = {
                **{"seconds": round(time.perf_counter() - start, 1), "round": len(rows), **chosen},
                **measure(folder),
                "registered_gradients": gradients,
                **{"images_trained": work.trained, "images_predicted": work.predicted},
            }
            rows.append(row)
            writer.writerow(row)
            file.flush()
            print(row, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("soak.csv"))
    parser.add_argument("--growth", type=float, default=GROWTH, help="bound, in MiB an hour")
    parser.add_argument("--keep-graphs", action="store_true", help="as users have it")
    parser.add_argument("--plot", type=pathlib.Path, help="draw this CSV, and do nothing else")
    arguments = parser.parse_args()
    if arguments.plot:
        plot(arguments.plot)
        return
    rows = soak(arguments.minutes, arguments.output, arguments.keep_graphs)
    plot(arguments.output)
    found = problems(rows, arguments.growth)
    an_hour, a_round = growth(rows)
    print(f"{len(rows)} rounds; allocated in the second half: {an_hour:+.1f} MiB an hour, and")
    print(f"{a_round:+.1f} MiB a round with XLA", *found, sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

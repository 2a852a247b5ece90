"""Measures exported files against Keras: mAP, size and speed, on the digit scenes.

    python benchmarks/export.py results/table1/patch-wn-seed1 results/table1/patch-wn-seed2 \\
        --out benchmarks/results/export.csv

For each run of `patchpu table1` on the digits (64x64 pixels, patches of 16): mAP on its 2,000
validation scenes, the largest difference of a score from Keras's, bytes, and milliseconds an
image in batches of 1 and 16 on two threads. Runtimes take turns within one process, threads of
onnxruntime do not spin while they wait; the time is the median of the turns, beside the least.
8-bit files are calibrated by 256 training scenes; further rows are other ways to quantise.
"""

import argparse
import csv
import functools
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from unittest import mock

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnxruntime.quantization import CalibrationMethod, quantize_static

from keras_patchpu import export_int8
from keras_patchpu.datasets import load_digit_scenes
from keras_patchpu.export import ENDINGS, export_classifier
from keras_patchpu.metrics import mean_average_precision
from keras_patchpu.models import load_classifier

THREADS = 2
BATCHES = (1, 16)
CALIBRATION = 256
# Changes of the arguments of `quantize_static`, for the rows that say why ours are as they are.
OTHERS = {
    "onnx int8, every operation": {"changes": {"nodes_to_exclude": []}},
    "onnx int8, nothing after the last convolution": {"changes": {}, "products": ()},
    "onnx int8, convolutions and products only": {
        "changes": {"op_types_to_quantize": ["Conv", "MatMul", "Gemm"]}
    },
    "onnx int8, percentile 99.99": {
        "changes": {
            "calibrate_method": CalibrationMethod.Percentile,
            "extra_options": {"CalibPercentile": 99.99},
        }
    },
    "onnx int8, one scale a tensor": {"changes": {"per_channel": False}},
}
FIELDS = (
    "run",
    "file",
    "mAP",
    "mAP_points_lost",
    "largest_difference",
    "mean_difference",
    "bytes",
    *(f"{kind}_ms_an_image_batch_{batch}" for batch in BATCHES for kind in ("median", "least")),
    "turns",
    "onnxruntime",
    "tensorflow",
    "machine",
    "date",
)


def quantize_otherwise(source, target, images, changes, products=export_int8._PRODUCTS):
    """`export_int8.quantize` with other arguments of `quantize_static`."""

    def quantize(*given, **usual):
        quantize_static(*given, **{**usual, **changes})

    with (
        mock.patch("onnxruntime.quantization.quantize_static", quantize),
        mock.patch.object(export_int8, "_PRODUCTS", products),
    ):
        export_int8.quantize(source, target, images)


def runner(path):
    """A function of images to scores."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(path, options)
        return lambda images: session.run(["scores"], {"images": images})[0]
    if path.suffix == ".tflite":
        run = Interpreter(str(path), num_threads=THREADS).get_signature_runner()
        return lambda images: run(images=images)["scores"]
    loaded = tf.saved_model.load(path)
    return lambda images: loaded.serve(images)["scores"].numpy()


def size(path):
    return sum(part.stat().st_size for part in (path, *path.rglob("*")) if part.is_file())


def measure(run, arguments, folder):
    """Rows of one trained model."""
    model = load_classifier(run, compile=False)
    scenes = load_digit_scenes(arguments.images, "validation", model.image_size[0])
    calibration = load_digit_scenes(CALIBRATION, "train", model.image_size[0], seed=100).images
    fused = model.fused()
    fused.save(folder / "fused.keras")
    files = {"keras fused": folder / "fused.keras"}
    functions = {"keras fused": fused.predict_on_batch}
    for format, ending in ENDINGS.items():
        path = folder / f"model{ending}"
        export_classifier(model, path, format)
        files["onnx float32" if format == "onnx" else format] = path
    files["onnx int8"] = folder / "int8.onnx"
    export_classifier(model, files["onnx int8"], calibration=calibration)
    for number, (name, other) in enumerate(OTHERS.items()):
        files[name] = folder / f"other{number}.onnx"
        quantize_otherwise(files["onnx float32"], files[name], calibration, **other)
    functions |= {name: runner(path) for name, path in files.items() if name not in functions}

    times = {key: [] for key in ((name, batch) for name in functions for batch in BATCHES)}
    for turn in range(arguments.turns + 1):
        for (name, batch), taken in times.items():
            images = scenes.images[:batch]
            start = time.perf_counter()
            functions[name](images)
            if turn:  # the first one compiles
                taken.append(1000 * (time.perf_counter() - start) / batch)

    reference, rows = None, []
    for name, function in functions.items():
        parts = [function(scenes.images[i : i + 16]) for i in range(0, len(scenes.images), 16)]
        scores = np.concatenate(parts)
        reference = scores if reference is None else reference
        mean_ap = functools.partial(mean_average_precision, scenes.labels)
        lost = 100 * (mean_ap(reference) - mean_ap(scores))
        row = {
            "run": pathlib.Path(run).name,
            "file": name,
            "mAP": f"{100 * mean_ap(scores):.3f}",
            "mAP_points_lost": f"{round(lost, 3) + 0.0:.3f}",  # no "-0.000"
            "largest_difference": f"{abs(scores - reference).max():.2g}",
            "mean_difference": f"{abs(scores - reference).mean():.2g}",
            "bytes": size(files[name]),
            "turns": arguments.turns,
            "onnxruntime": onnxruntime.__version__,
            "tensorflow": tf.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "date": time.strftime("%Y-%m-%d"),
        }
        for batch in BATCHES:
            taken = times[name, batch]
            row[f"median_ms_an_image_batch_{batch}"] = f"{statistics.median(taken):.2f}"
            row[f"least_ms_an_image_batch_{batch}"] = f"{min(taken):.2f}"
        rows.append(row)
        print({key: row[key] for key in FIELDS[:-4]}, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="Run folders of models on the digit scenes.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    if keras.backend.backend() != "tensorflow":
        sys.exit("Needs KERAS_BACKEND=tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    rows = []
    for run in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(run, arguments, pathlib.Path(folder))
        if arguments.out:
            with open(arguments.out, "w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()

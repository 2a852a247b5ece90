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

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from keras_patchpu.datasets import load_digit_scenes
from keras_patchpu.export import export_classifier
from keras_patchpu.metrics import mean_average_precision
from keras_patchpu.models import load_classifier

THREADS = 2
BATCHES = (1, 16)
CALIBRATION = 256
ENDINGS = {"onnx": ".onnx", "tf_saved_model": "", "litert": ".tflite"}
PRODUCTS = ("MatMul", "Gemm")
# The file that docs/howto/export.md makes, and others that say why it is as it is: arguments of
# `quantize_static`, and the operations behind the last convolution that are quantised.
QUANTIZED = {
    "onnx int8": ({}, PRODUCTS),
    "onnx int8, every operation": ({"nodes_to_exclude": []}, PRODUCTS),
    "onnx int8, nothing after the last convolution": ({}, ()),
    "onnx int8, convolutions and products only": (
        {"op_types_to_quantize": ["Conv", *PRODUCTS]},
        PRODUCTS,
    ),
    "onnx int8, percentile 99.99": (
        {
            "calibrate_method": CalibrationMethod.Percentile,
            "extra_options": {"CalibPercentile": 99.99},
        },
        PRODUCTS,
    ),
    "onnx int8, one scale a tensor": ({"per_channel": False}, PRODUCTS),
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


class Batches(CalibrationDataReader):
    """Images of calibration, in batches of 16."""

    def __init__(self, images):
        self.batches = iter([images[i : i + 16] for i in range(0, len(images), 16)])

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


def quantize(source, target, images, changes, products):
    """Writes an ONNX file in 8 bits, as docs/howto/export.md does, but for the changes."""
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    nodes = onnx.load(prepared).graph.node
    last = max(index for index, node in enumerate(nodes) if node.op_type == "Conv")
    usual = {
        "per_channel": True,
        "activation_type": QuantType.QUInt8,
        "nodes_to_exclude": [n.name for n in nodes[last + 1 :] if n.op_type not in products],
    }
    quantize_static(str(prepared), str(target), Batches(images), **{**usual, **changes})


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
    for number, (name, (changes, products)) in enumerate(QUANTIZED.items()):
        files[name] = folder / f"int8_{number}.onnx"
        quantize(files["onnx float32"], files[name], calibration, changes, products)
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

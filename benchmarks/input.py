"""Measures whether reading and decoding images keeps up with PatchClassifier.

    python benchmarks/input.py --quick              # about a minute on 2 cores
    python benchmarks/input.py --out benchmarks/results/input.json
    KERAS_BACKEND=jax python benchmarks/input.py --batch-size 64 --precision mixed_bfloat16

`--skip-model` measures the input alone. `python benchmarks/input.py --help` lists all options.

Writes synthetic JPEG files of about half a byte a pixel, as those of VOC and COCO have, into a
temporary folder, and measures images a second of these inputs:

- `tf_resized`: tf.data reads, decodes and resizes to 640x640 (bilinear), uint8. It decodes with
  `dct_method="INTEGER_ACCURATE"`, as Pillow does.
- `tf_resized_fast`: the same with `INTEGER_FAST`, TensorFlow's default, only where that changes
  no decoded pixel by more than 2 of 255.
- `tf_padded`: tf.data reads, decodes (accurately) and pads to 640x640; the resize would be the
  model's.
- `file_batches`: the package's own `FileBatches` (Pillow reads, decodes and resizes) in its own
  threads, one a core; needs no TensorFlow.

Then, with random pixels, the images a second of `train_on_batch` and `predict_on_batch` of
`PatchClassifier(num_labels=20)` at 640x640 with patches of 64. All inputs take turns, and so do
training and prediction, so that a machine whose speed drifts drifts for all; the first turn
of each warms up and does not count. The target is an input of 1.5 times the model's rate.

Input and model are measured apart. Where they share cores, as on a machine without accelerator,
they slow each other down: an input of r times the model's rate costs 1 / (1 + r) of the time at
most. The files come from the memory of the operating system: the disk is not measured.
"""

import argparse
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import PIL
from photographs import write_files

from keras_patchpu.datasets import FileBatches, ImageFiles
from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import PatchClassifier
from keras_patchpu.optimizers import Lamb

try:
    import tensorflow as tf
except ImportError:  # the other backends do not need it
    tf = None

SIDE = 640  # of the model's images
TARGET = 1.5


# === Inputs: each returns an iterable of batches ===


def decode(path, dct_method):
    return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method=dct_method)


def tf_resized(paths, batch_size, dct_method="INTEGER_ACCURATE"):
    def load(path):
        image = decode(path, dct_method)
        image = tf.image.resize(image, (SIDE, SIDE), method="bilinear")
        return tf.cast(tf.round(image), tf.uint8)

    return _tf_batches(paths, batch_size, load)


def tf_padded(paths, batch_size):
    def load(path):
        image = decode(path, "INTEGER_ACCURATE")
        # The model needs the size to cut the padding off again.
        return tf.image.pad_to_bounding_box(image, 0, 0, SIDE, SIDE), tf.shape(image)[:2]

    return _tf_batches(paths, batch_size, load)


def _tf_batches(paths, batch_size, load):
    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def file_batches(paths, batch_size):
    labels = np.ones((len(paths), 1), "int8")
    files = ImageFiles(paths, paths, labels, ("any",))
    batches = FileBatches(files, (SIDE, SIDE), batch_size, cache_bytes=0)
    for index in range(len(batches)):
        yield batches[index][0]


def fast_dct_differences(paths):
    """Differences of decoded pixels, accurate minus fast: the largest and the mean."""
    differences = [
        decode(path, "INTEGER_ACCURATE").numpy().astype("int16")
        - decode(path, "INTEGER_FAST").numpy()
        for path in paths
    ]
    largest = max(int(np.abs(difference).max()) for difference in differences)
    return largest, round(statistics.mean(float(values.mean()) for values in differences), 3)


# === Rates ===


def input_rates(paths, batch_size, repeats, with_fast):
    """Images a second of every input by name, one number a repeat."""
    inputs = {"file_batches": lambda: file_batches(paths, batch_size)}
    if tf is not None:
        inputs["tf_resized"] = lambda: tf_resized(paths, batch_size)
        inputs["tf_padded"] = lambda: tf_padded(paths, batch_size)
    if with_fast:
        inputs["tf_resized_fast"] = lambda: tf_resized(paths, batch_size, "INTEGER_FAST")

    def read_all(batches):
        for _ in batches():
            pass
        return len(paths)

    return rates({name: (read_all, batches) for name, batches in inputs.items()}, repeats)


def model_rates(batch_size, steps, repeats):
    """Images a second of training and prediction, one number a repeat."""
    model = PatchClassifier(num_labels=20)
    model.compile(Lamb(1e-3, weight_decay=1e-4), WeakNegative())
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, SIDE, SIDE, 3), dtype="uint8")
    observed = np.zeros((batch_size, 20), "int8")  # +1 for the one label known, 0 unknown
    observed[np.arange(batch_size), random.integers(0, 20, batch_size)] = 1

    def repeat(step, *arrays):
        for _ in range(steps):
            result = step(*arrays)
        np.asarray(keras.tree.flatten(result)[0])  # waits for the device
        return steps * batch_size

    return rates(
        {
            "training": (repeat, model.train_on_batch, images, observed),
            "prediction": (repeat, model.predict_on_batch, images),
        },
        repeats,
    )


def rates(calls, repeats):
    """Images a second of calls that return their number of images; they take turns."""
    found = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, (function, *arguments) in calls.items():
            start = time.perf_counter()
            images = function(*arguments)
            if turn > 0:  # the first warms up
                found[name].append(images / (time.perf_counter() - start))
    return found


def summary(values):
    return {
        "median": round(statistics.median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
        "repeats": len(values),
    }


def compare(inputs, models):
    """Ratios of the medians, and which side bounds, by model rate and input."""
    compared = {}
    for model, model_rate in models.items():
        for name, input_rate in inputs.items():
            ratio = input_rate["median"] / model_rate["median"]
            compared[f"{name} / {model}"] = {
                "ratio": round(ratio, 2),
                "bound": "model" if ratio >= 1 else "input",
                "meets_target": ratio >= TARGET,
            }
    return compared


# === Description ===


def usable_cores():
    if hasattr(os, "sched_getaffinity"):  # not on macOS, Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def device(backend):
    """Name of the device that the model runs on."""
    if backend == "jax":
        return __import__("jax").devices()[0].device_kind
    if backend == "torch":
        cuda = __import__("torch").cuda
        return cuda.get_device_name() if cuda.is_available() else "cpu"
    return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"


def commit():
    """Commit of the checkout, with `+` if the package was changed since; None without git."""
    here = pathlib.Path(__file__).parents[1]
    options = {"cwd": here, "capture_output": True, "text": True, "check": True}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--short", "keras_patchpu"], **options).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def load_average():
    return [round(load, 2) for load in os.getloadavg()]


def machine():
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras": keras.__version__}
    versions |= {"numpy": np.__version__, "pillow": PIL.__version__}
    if tf is not None:
        versions["tensorflow"] = tf.__version__
    if backend != "tensorflow":
        versions[backend] = __import__(backend).__version__
    return {
        "commit": commit(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "load_average_at_start": load_average(),
        "backend": backend,
        "device": device(backend),
        "versions": versions,
    }


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=512, help="JPEG files (default: 512)")
    parser.add_argument("--batch-size", type=int, default=4, help="of input and model (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="turns that count (default: 5)")
    parser.add_argument("--steps", type=int, default=3, help="model steps a turn (default: 3)")
    parser.add_argument("--precision", default="float32", help="dtype policy (default: float32)")
    parser.add_argument("--quick", action="store_true", help="64 files, 2 turns, 1 step")
    parser.add_argument("--skip-model", action="store_true", help="measure the input alone")
    parser.add_argument("--out", help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.files, arguments.repeats, arguments.steps = 64, 2, 1
    return arguments


def main():
    arguments = parse()
    if tf is not None and keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")  # its memory is for the model's framework
    keras.config.set_dtype_policy(arguments.precision)
    description = machine()
    with tempfile.TemporaryDirectory() as folder:
        paths, all_bytes, all_pixels = write_files(folder, arguments.files)
        print(
            f"{len(paths)} files, mean {all_bytes / len(paths):.0f} bytes, "
            f"{all_bytes / all_pixels:.2f} a pixel"
        )
        largest, mean = (None, None) if tf is None else fast_dct_differences(paths[:25])
        with_fast = largest is not None and largest <= 2
        inputs = input_rates(paths, arguments.batch_size, arguments.repeats, with_fast)
    inputs = {name: summary(values) for name, values in inputs.items()}
    models = {}
    if not arguments.skip_model:
        models = model_rates(arguments.batch_size, arguments.steps, arguments.repeats)
        models = {name: summary(values) for name, values in models.items()}
    result = {
        "command": shlex.join(["python", "benchmarks/input.py", *sys.argv[1:]]),
        **description,
        "load_average_at_end": load_average(),
        "settings": {name: value for name, value in vars(arguments).items() if name != "out"},
        "mean_bytes_a_file": round(all_bytes / len(paths)),
        "bytes_a_pixel": round(all_bytes / all_pixels, 3),
        "accurate_minus_fast_dct": {"largest": largest, "mean": mean},
        "input_images_a_second": inputs,
        "model_images_a_second": models,
        "target_ratio": TARGET,
        "input_over_model": compare(inputs, models),
    }
    report(result)
    if arguments.out:
        path = pathlib.Path(arguments.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")


def report(result):
    difference = result["accurate_minus_fast_dct"]
    if difference["largest"] is not None:
        print(
            f"accurate minus fast DCT: up to {difference['largest']} of 255, mean "
            f"{difference['mean']}; {'measured' if difference['largest'] <= 2 else 'left out'}"
        )
    for name, values in {
        **result["input_images_a_second"],
        **result["model_images_a_second"],
    }.items():
        print(f"{name:16} {values['median']:8.1f} images a second (median)")
    for name, values in result["input_over_model"].items():
        print(
            f"{name:28} {values['ratio']:7.2f}: the {values['bound']} bounds; target of "
            f"{TARGET} {'met' if values['meets_target'] else 'missed'}"
        )


if __name__ == "__main__":
    main()

"""Times a training step and a prediction of PatchClassifier against two other networks.

    python benchmarks/step.py --setting 64/16 --batch-size 16 --networks ours,stock --out FILE
    KERAS_BACKEND=jax python benchmarks/step.py --quick

Networks: `ours`; `stock`, the same network of Keras's own layers with the same weights, with
(`stock+jit`) or without XLA; `resnet50`, keras.applications.ResNet50 with a sigmoid head on
the same images; `plain`, the network in plain torch.nn (on PyTorch alone). `ours-jit` is ours
with XLA off. All are timed in turn, so that a machine
whose speed drifts drifts for all. Ratios are medians of the ratios within a turn. The roofline
is what the step's arithmetic and memory traffic would take at the matrix rate and the copy
bandwidth that this machine reaches in NumPy. `--memory` adds the peak resident memory of each
network, each in a process of its own. Writes JSON.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time

import keras
import numpy as np

from keras_patchpu.layers import PatchEmbedder, mobile_inverted_bottleneck, patch_embedder
from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import PatchClassifier, patch_classifier
from keras_patchpu.optimizers import Lamb

SETTINGS = {"64/16": (64, 16, 2), "224/32": (224, 32, 3), "640/64": (640, 64, 3)}
SETTINGS["448/64"] = (448, 64, 3)
NUM_LABELS = 20


# === Networks ===


class StockDepthwise(keras.layers.DepthwiseConv2D):
    def __init__(self, kernel_size, **kwargs):
        super().__init__(kernel_size, padding="same", **kwargs)


class StockEmbedder(PatchEmbedder):
    """Always the composition of Keras's layers, one after the other."""

    def call(self, patches, training=False):
        num_patches = patches.shape[1]
        patches = keras.ops.reshape(patches, (-1, *patches.shape[2:]))
        maps = self.block_outputs(patches, training=training)["block3b"]
        embeddings = self.projection(keras.ops.mean(maps, axis=(1, 2)))
        return keras.ops.reshape(embeddings, (-1, num_patches, self.features))


def build(network, setting):
    """The compiled network `network` for images of `setting`."""
    image_size, patch_size, num_downsamples = SETTINGS[setting]
    if network == "plain":
        from plain_torch import PlainTorch

        return PlainTorch(NUM_LABELS, patch_size, num_downsamples)
    if network == "resnet50":
        body = keras.applications.ResNet50(
            include_top=False, weights=None, pooling="avg", input_shape=(image_size, image_size, 3)
        )
        outputs = keras.layers.Dense(NUM_LABELS, activation="sigmoid", dtype="float32")(body.output)
        model = keras.Model(body.input, outputs)
        model.compile(Lamb(1e-3, weight_decay=1e-4), keras.losses.BinaryCrossentropy())
        return model
    own = (
        (mobile_inverted_bottleneck, "BatchNorm", keras.layers.BatchNormalization),
        (patch_embedder, "BatchNorm", keras.layers.BatchNormalization),
        (mobile_inverted_bottleneck, "Conv", keras.layers.Conv2D),
        (patch_embedder, "Conv", keras.layers.Conv2D),
        (mobile_inverted_bottleneck, "DepthwiseConv", StockDepthwise),
        (patch_classifier, "PatchEmbedder", StockEmbedder),
    )
    saved = [getattr(module, name) for module, name, _ in own]
    if network.startswith("stock"):
        for module, name, stock in own:
            setattr(module, name, stock)
    try:
        model = PatchClassifier(
            NUM_LABELS,
            image_size=(image_size, image_size),
            patch_size=patch_size,
            num_downsamples=num_downsamples,
        )
    finally:
        for (module, name, _), value in zip(own, saved):
            setattr(module, name, value)
    jit = {
        "ours": "auto",
        "ours-jit": False,
        "stock": False,
        "stock+jit": True,
    }[network]
    if network == "stock" and keras.backend.backend() == "jax":
        jit = True  # without, JAX runs operation by operation
    model.compile(Lamb(1e-3, weight_decay=1e-4), WeakNegative(), jit_compile=jit)
    return model


def batch(setting, batch_size):
    random = np.random.default_rng(0)
    size = SETTINGS[setting][0]
    images = random.integers(0, 256, (batch_size, size, size, 3), dtype="uint8")
    return images, np.eye(NUM_LABELS, dtype="int8")[random.integers(0, NUM_LABELS, batch_size)]


# === Roofline ===


def work(setting):
    """Multiply-adds and embedder activations of one image, forward."""
    image_size, patch_size, num_downsamples = SETTINGS[setting]
    counts = [(image_size // 2**level // patch_size) ** 2 for level in range(num_downsamples + 1)]
    side = -(-patch_size // 2)
    multiply_adds, activations, channels = side**2 * 27 * 32, side**2 * 32, 32
    for _, filters, kernel_size, strides, expansion in patch_embedder.BLOCKS:
        wide, out = channels * expansion, -(-side // strides)
        if expansion > 1:
            multiply_adds += side**2 * channels * wide
            activations += side**2 * wide
        multiply_adds += out**2 * wide * (kernel_size**2 + filters)
        activations += out**2 * (wide + filters)
        side, channels = out, filters
    return multiply_adds * sum(counts), activations * sum(counts)


def machine_rates():
    """Copy bandwidth in bytes a second and matrix rate in operations a second, in NumPy."""
    cores = os.cpu_count()
    pairs = [(np.ones(2**25, "float32"), np.ones(2**25, "float32")) for _ in range(cores)]
    copies, products = [], []
    matrix = np.ones((2048, 2048), "float32")
    for _ in range(5):
        threads = [threading.Thread(target=np.copyto, args=pair) for pair in pairs]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        copies.append(time.perf_counter() - start)
        start = time.perf_counter()
        matrix @ matrix
        products.append(time.perf_counter() - start)
    return cores * 2 * 2**27 / min(copies), 2 * 2048**3 / min(products)


def roofline(setting):
    """Least milliseconds an image, training and prediction, by arithmetic and by memory.

    Prediction writes and reads each activation once (2 passes of 4 bytes). Training adds,
    backwards, reading the activation, reading and writing the gradient, and a second
    reading of both for the kernels' gradients: 7 passes in all. Arithmetic: the
    multiply-adds of the convolutions once in prediction, three times in training.
    """
    multiply_adds, activations = work(setting)
    bandwidth, rate = machine_rates()
    result = {"copy_gb_a_second": bandwidth / 1e9, "matrix_gflops": rate / 1e9}
    for name, passes, products in [("training", 7, 3), ("prediction", 2, 1)]:
        result[name] = {
            "arithmetic_ms": 2e3 * multiply_adds * products / rate,
            "memory_ms": 4e3 * activations * passes / bandwidth,
        }
    return result


# === Measuring ===


STEPS_A_TURN = 4


class Clock(keras.callbacks.Callback):
    """When each training step of `fit` was done. (`train_on_batch` of JAX and PyTorch traces
    the model anew at every call.)"""

    def on_train_begin(self, logs=None):
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # waits for the device
        self.times.append(time.perf_counter())


def training_ms(model, images, labels):
    """Milliseconds of a step, the mean of all but the first of a short `fit`."""
    clock = Clock()
    images = np.concatenate([images] * STEPS_A_TURN)
    labels = np.concatenate([labels] * STEPS_A_TURN)
    batch_size = len(images) // STEPS_A_TURN
    model.fit(images, labels, batch_size=batch_size, shuffle=False, verbose=0, callbacks=[clock])
    return (clock.times[-1] - clock.times[0]) * 1e3 / (STEPS_A_TURN - 1)


def prediction_ms(model, images):
    start = time.perf_counter()
    model.predict_on_batch(images)
    return (time.perf_counter() - start) * 1e3


def measure(models, predictors, images, labels, repeats):
    times = {name: {"training": [], "prediction": []} for name in models}
    for repeat in range(repeats + 1):  # one to warm up and compile
        for name, model in models.items():
            milliseconds = {
                "training": training_ms(model, images, labels),
                "prediction": prediction_ms(predictors[name], images),
            }
            if repeat:
                for kind, value in milliseconds.items():
                    times[name][kind].append(value / len(images))
    return times


def summary(values):
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def peak_memory(network, arguments):
    """MiB that two training steps add to the peak resident memory of a fresh process."""
    command = [sys.executable, __file__, "--setting", arguments.setting, "--memory-of", network]
    command += ["--batch-size", str(arguments.batch_size), "--precision", arguments.precision]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return float(lines[-1])


def peak_kib():
    """Peak resident memory of this process alone; getrusage's starts at its parent's."""
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def print_memory(arguments):
    images, labels = batch(arguments.setting, arguments.batch_size)
    before = peak_kib()
    model = build(arguments.memory_of, arguments.setting)
    for _ in range(2):
        training_ms(model, images, labels)
    print(round((peak_kib() - before) / 1024))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=list(SETTINGS), default="64/16")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="float32", help="a Keras dtype policy")
    parser.add_argument("--networks", default="ours,stock")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="64/16 in under two minutes")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.setting, arguments.repeats, arguments.networks = "64/16", 5, "ours,stock"
    keras.config.set_dtype_policy(arguments.precision)
    if arguments.memory_of:
        return print_memory(arguments)

    names = arguments.networks.split(",")
    images, labels = batch(arguments.setting, arguments.batch_size)
    models = {name: build(name, arguments.setting) for name in names}
    for name in names:
        if name.startswith("stock") and "ours" in models:
            models[name].set_weights(models["ours"].get_weights())
    result = {
        "command": " ".join(["python", "benchmarks/step.py", *sys.argv[1:]]),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "huge_pages": "hugetlb" in os.environ.get("GLIBC_TUNABLES", ""),
        "setting": arguments.setting,
        "batch_size": arguments.batch_size,
        "precision": arguments.precision,
    }
    if "stock" in models and "ours" in models:
        result["largest_difference_of_probabilities"] = float(
            np.abs(
                models["ours"].predict_on_batch(images) - models["stock"].predict_on_batch(images)
            ).max()
        )
    predictors = dict(models)
    if "ours" in models:
        predictors["ours"] = models["ours"].fused()
    if "ours-jit" in models:
        predictors["ours-jit"] = models["ours-jit"].fused()
        predictors["ours-jit"].jit_compile = False
    times = measure(models, predictors, images, labels, arguments.repeats)
    result["milliseconds_an_image"] = {
        name: {kind: summary(values) for kind, values in kinds.items()}
        for name, kinds in times.items()
    }
    result["times_faster"] = {
        f"{other} / ours": {
            kind: round(
                statistics.median(b / a for a, b in zip(times["ours"][kind], times[other][kind])), 2
            )
            for kind in ("training", "prediction")
        }
        for other in names
        if other != "ours" and "ours" in models
    }
    result["roofline"] = roofline(arguments.setting)
    if arguments.memory:
        result["peak_mib"] = {name: peak_memory(name, arguments) for name in names}
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        with open(arguments.out, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()

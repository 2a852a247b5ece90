"""Times a training step of PatchClassifier against the same network of stock Keras layers.

    python benchmarks/step.py [--image-size 64] [--patch-size 16] [--batch-size 16] [--out FILE]

Both networks are timed in turn, so that a machine whose speed drifts drifts for both. The
stock network differs in two layers: `keras.layers.BatchNormalization` for `BatchNorm`, and
`keras.layers.DepthwiseConv2D` for `DepthwiseConv`. Prints and writes JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time

import keras
import numpy as np

from keras_patchpu.layers import mobile_inverted_bottleneck, patch_embedder
from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import PatchClassifier
from keras_patchpu.optimizers import Lamb


class StockDepthwise(keras.layers.DepthwiseConv2D):
    def __init__(self, kernel_size, **kwargs):
        super().__init__(kernel_size, padding="same", use_bias=False, **kwargs)


def build(arguments, stock):
    """The compiled network; with `stock` the two layers are Keras's own."""
    modules = (mobile_inverted_bottleneck, patch_embedder)
    ours = (modules[0].BatchNorm, modules[0].DepthwiseConv)
    if stock:
        for module in modules:
            module.BatchNorm = keras.layers.BatchNormalization
        modules[0].DepthwiseConv = StockDepthwise
    try:
        model = PatchClassifier(
            10,
            image_size=(arguments.image_size, arguments.image_size),
            patch_size=arguments.patch_size,
            num_downsamples=2 if arguments.image_size == 64 else 3,
        )
    finally:
        for module in modules:
            module.BatchNorm = ours[0]
        modules[0].DepthwiseConv = ours[1]
    model.compile(Lamb(1e-3, weight_decay=1e-4), WeakNegative())
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out")
    arguments = parser.parse_args()

    random = np.random.default_rng(0)
    shape = (arguments.batch_size, arguments.image_size, arguments.image_size, 3)
    images = random.integers(0, 256, shape, dtype="uint8")
    labels = np.eye(10, dtype="int8")[random.integers(0, 10, arguments.batch_size)]
    models = {"ours": build(arguments, False), "stock": build(arguments, True)}
    models["stock"].set_weights(models["ours"].get_weights())
    difference = np.abs(
        models["ours"].predict(images, verbose=0) - models["stock"].predict(images, verbose=0)
    ).max()
    times = {name: [] for name in models}
    for repeat in range(arguments.repeats + 2):  # two to warm up
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            if repeat >= 2:
                times[name].append((time.perf_counter() - start) * 1e3 / arguments.batch_size)
    result = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "image_size": arguments.image_size,
        "patch_size": arguments.patch_size,
        "batch_size": arguments.batch_size,
        "largest_difference_of_probabilities": float(difference),
        "milliseconds_an_image": {
            name: {
                "median": round(statistics.median(values), 3),
                "min": round(min(values), 3),
                "max": round(max(values), 3),
            }
            for name, values in times.items()
        },
        "stock_over_ours": round(
            statistics.median(b / a for a, b in zip(times["ours"], times["stock"])), 3
        ),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        with open(arguments.out, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()

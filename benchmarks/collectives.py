"""What a training step sends between devices, read off the program that XLA compiled for 8 of them.

    KERAS_BACKEND=jax python benchmarks/collectives.py

Needs no GPU: the processor counts as 8 devices. Prints each kind of collective operation with its
number and the bytes of its results.
"""

import collections
import math
import os
import re

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)

import jax
import keras
import numpy as np

from keras_patchpu import PatchClassifier
from keras_patchpu.losses import WeakNegative
from keras_patchpu.optimizers import Lamb

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
KINDS = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"


def main():
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    model = PatchClassifier(num_labels=20, image_size=(64, 64), patch_size=16, num_downsamples=2)
    model.compile(Lamb(1e-3), WeakNegative())
    model.optimizer.build(model.trainable_variables)
    model.reset_metrics()
    images = np.zeros((16, 64, 64, 3), "uint8")
    labels = np.eye(20, dtype="int8")[:16]
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    mesh = keras.distribution.distribution().device_mesh.backend_mesh
    batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    data = jax.device_put((images, labels), batch)
    kept = [[value.sharding for value in part] for part in state]
    step = jax.jit(model.train_step, out_shardings=(None, tuple(kept)))
    text = step.lower(state, data).compile().as_text()
    found = collections.defaultdict(lambda: [0, 0])
    for shapes, kind in re.findall(rf"= (.+?) ({KINDS})(?:-start)?\(", text):
        sizes = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        found[kind][0] += 1
        found[kind][1] += sum(
            BYTES[dtype] * math.prod(map(int, filter(None, shape.split(","))))
            for dtype, shape in sizes
        )
    weights = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    print(f"{weights} trainable parameters, {4 * weights} bytes")
    for kind, (number, size) in found.items():
        print(f"{kind}: {number} operations, {size} bytes")


if __name__ == "__main__":
    main()

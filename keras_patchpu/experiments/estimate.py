"""How long a run will take and how much it leaves on disk, without any data.

`num_images` and `hours` need no framework; timing a step builds the model. As a program,
`python -m keras_patchpu.experiments.estimate SETTINGS.yaml` prints one line of JSON.
"""

import dataclasses
import json
import math
import statistics
import sys
import time

import numpy as np
import yaml

from keras_patchpu.experiments.config import TrainConfig

# Training images, validation images and labels of the published sets.
_PUBLISHED = {"voc": (5717, 5823, 20), "coco": (82081, 40137, 80)}
# What a step's time does not depend on. All else that is not of the data may count.
_NOT_SPEED = (
    "dataset",
    "data_dir",
    "check_counts",
    "epochs",
    "learning_rate",
    "schedule",
    "weight_decay",
    "seed",
    "output",
    "codebook_std",
    "codebook_rate",
    "batch_norm_momentum",
    "theta",
    "negative_weight",
    "expected_positives",
    "num_train",
    "num_validation",
    "difficulty",
    "max_digits",
    "second_label_share",
)
_HEATMAP_STRIDE = 32  # pixels of the image to a place of ResNet-50's last feature map
_HEATMAP_BYTES = 2


def num_images(config):
    """Number of training images, validation images and labels of a run.

    Args:
        config: `TrainConfig`.

    Returns:
        Tuple of three integers, or `None` for one's own images.
    """
    if config.dataset == "digits":
        return config.num_train, config.num_validation, 10
    return _PUBLISHED.get(config.dataset)


def speed_key(config):
    """What decides the time of a step: runs with the same key are timed once."""
    values = dataclasses.asdict(config)
    kept = {name: value for name, value in values.items() if name not in _NOT_SPEED}
    return json.dumps([kept, num_images(config) and num_images(config)[2]], sort_keys=True)


def hours(config, measured):
    """Hours of a run: all training steps, and a pass over the validation images an epoch.

    Args:
        config: `TrainConfig` of a data set whose size is known.
        measured: Dict of `measure`.

    Returns:
        Number.
    """
    train, validation, _ = num_images(config)
    steps = math.ceil(train / config.batch_size)
    predictions = math.ceil(validation / config.batch_size)
    epoch = steps * measured["step_seconds"] + predictions * measured["prediction_seconds"]
    return config.epochs * epoch / 3600


def disk_bytes(config, measured):
    """Bytes that a run leaves: `last.keras` and `best.keras`, and the heat maps of `en_scl`."""
    size = 2 * measured["model_bytes"]
    if config.loss == "en_scl":
        train, _, labels = num_images(config)
        side = math.ceil(config.image_size / _HEATMAP_STRIDE)
        size += train * labels * side * side * _HEATMAP_BYTES
    return size


def seconds_per_step(config, steps=5, model=None):
    """Median seconds of a training step on random images, compiling not counted.

    Args:
        config: `TrainConfig`.
        steps: Steps that are timed. Defaults to `5`.
        model: Compiled model of the settings. Defaults to `None`: one is made.

    Returns:
        Number.
    """
    model = model or _compiled_model(config)
    images, labels = _random_batch(config, model.num_labels)
    names = getattr(model.loss, "inputs", None) or ()
    if "image_index" in names:
        labels = {"labels": labels, "image_index": np.arange(len(images), dtype="int32")}
    return _median_seconds(lambda: model.train_on_batch(images, labels), steps)


def measure(config, steps=5):
    """Times a training step and a prediction, and sizes the model.

    Args:
        config: `TrainConfig`.
        steps: Steps that are timed. Defaults to `5`.

    Returns:
        Dict of `"step_seconds"` and `"prediction_seconds"`, each of one batch,
        `"parameters"`, and `"model_bytes"`: weights and the optimizer's moments.
    """
    model = _compiled_model(config)
    step_seconds = seconds_per_step(config, steps, model)
    images, _ = _random_batch(config, model.num_labels)
    variables = [*model.weights, *model.optimizer.variables]
    return {
        "step_seconds": step_seconds,
        "prediction_seconds": _median_seconds(lambda: model.predict_on_batch(images), steps),
        "parameters": model.count_params(),
        "model_bytes": sum(4 * math.prod(variable.shape) for variable in variables),
    }


def _compiled_model(config):
    from keras_patchpu.experiments.run import make_loss, make_model
    from keras_patchpu.optimizers import Lamb

    _, _, num_labels = num_images(config) or (0, 0, 10)
    model = make_model(config, num_labels)
    loss = make_loss(config, config.expected_positives or 1.0)
    jit_compile = {"auto": "auto", "on": True, "off": False}[config.xla]
    model.compile(Lamb(config.learning_rate), loss, jit_compile=jit_compile)
    return model


def _random_batch(config, num_labels):
    """Images `(B, H, W, 3)` and labels `(B, L)`, one observed an image (all for `bce`)."""
    random = np.random.default_rng(0)
    shape = (config.batch_size, config.image_size, config.image_size, 3)
    images = random.integers(0, 256, shape, dtype="uint8")
    labels = np.full((len(images), num_labels), -1 if config.loss == "bce" else 0, "int8")
    labels[np.arange(len(images)), random.integers(num_labels, size=len(images))] = 1
    return images, labels


def _median_seconds(function, repeats):
    seconds = []
    for _ in range(repeats + 2):  # the first two compile and warm up
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:])


def main(path):
    """Prints the dict of `measure` for the settings in a YAML file, as the last line."""
    with open(path, encoding="utf-8") as file:
        config = TrainConfig(**yaml.safe_load(file))
    print(json.dumps(measure(config)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How long a run will take and how much it leaves on disk, without any data.

As a program, `python -m patchpu.grids.estimate SETTINGS.yaml` prints one line of JSON.
"""

import json
import math
import statistics
import sys
import time

import numpy as np
import yaml

from patchpu.training.build import fitted_part, make_loss, make_model, make_optimizer
from patchpu.training.config import TrainConfig, names_of_settings
from patchpu.training.data import passes
from patchpu.training.losses import LOSSES

# Training images, validation images and labels of the published sets.
_PUBLISHED = {"voc": (5717, 5823, 20), "coco": (82081, 40137, 80)}
_NPY_HEADER = 128
_SECONDS = 8  # from when on no further step is timed


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
    values = {name: getattr(config, name) for name in names_of_settings("speed")}
    if not LOSSES[config.loss].adds_to_step:
        values["loss"] = "sums over labels"
    return json.dumps([values, num_images(config)], sort_keys=True)


def hours(config, measured):
    """Hours of a run: training steps, and what is predicted after each epoch.

    These are the validation images, and the training images where the loss remembers predictions.
    Over a frozen backbone the features of all are computed once; after that a prediction takes no
    longer than a step.

    Args:
        config: `TrainConfig` of a data set whose size is known.
        measured: Dict of `measure`.

    Returns:
        Number.
    """
    train, validation, _ = num_images(config)
    steps = config.epochs * math.ceil(train * passes(config, train) / config.batch_size)
    batch = _prediction_batch(config)
    predictions = config.epochs * math.ceil(validation / batch)
    predictions += _training_passes(config) * math.ceil(train / batch)
    if config.model == "backbone":
        copies = config.augmented_copies if config.augment else 1
        steps += predictions
        predictions = math.ceil((train * copies + validation) / batch)
    return (steps * measured["step_seconds"] + predictions * measured["prediction_seconds"]) / 3600


def _training_passes(config):
    """How often all training images are predicted."""
    row = LOSSES[config.loss]
    if row.remembers == "pseudo-labels":
        warmup = config.pseudo_label_warmup or max(config.epochs // 2, 1)
        return max(config.epochs - warmup, 0)
    return config.epochs if row.averages_predictions else 0


def disk_bytes(config, measured):
    """Bytes that a run needs at the most.

    These are `last/model.keras` and `best.keras`; and what is remembered of the training images,
    after the last epoch and the one before it.

    Args:
        config: `TrainConfig` of a data set whose size is known.
        measured: Dict of `measure`.

    Returns:
        Integer.
    """
    epochs_kept = min(config.epochs, 2)
    return 2 * measured["model_bytes"] + epochs_kept * memory_bytes(config, measured["map_size"])


def memory_bytes(config, map_size=None):
    """Bytes of the files of `PredictionAverages` or `PseudoLabels` after an epoch.

    Averages and pseudo-labels `(N, L)` are in single precision, averages of score maps
    `(N, h, w, L)` in half precision.

    Args:
        config: `TrainConfig` of a data set whose size is known.
        map_size: `(h, w)` of the model's score maps. Defaults to `None`; averages of maps need it.

    Returns:
        Integer, 0 for other losses.
    """
    train, _, labels = num_images(config)
    row, size = LOSSES[config.loss], 0
    if row.remembers_in_files:
        size += _NPY_HEADER + 4 * train * labels
    if row.remembers == "average maps":
        size += _NPY_HEADER + 2 * train * labels * math.prod(map_size)
    return size


def measure(config, steps=5):
    """Times a training step and a prediction on random images, and sizes the model.

    Compiling is not counted. Of slow steps fewer are timed, at least one.

    Args:
        config: `TrainConfig`.
        steps: Steps that are timed at the most. Defaults to `5`.

    Returns:
        Dict of `"step_seconds"` and `"prediction_seconds"`, each of one batch, as large as a
        run's; `"parameters"` of the model; `"model_bytes"`: all weights and the optimizer's
        moments; and `"map_size"`: `(h, w)` of the score maps if the loss wants their averages,
        otherwise `None`.
    """
    model = _compiled_model(config)
    map_size = None
    if LOSSES[config.loss].remembers == "average maps":
        map_size = model.output["score_maps"].shape[1:3]
    images, targets = _random_batch(config, model, map_size)
    fitted, seen = fitted_part(config, model), images
    if fitted is not model:
        shape = (config.batch_size, *fitted.input_shape[1:])
        seen = np.random.default_rng(0).random(shape).astype("float16")
    step_seconds = _median_seconds(lambda: fitted.train_on_batch(seen, targets), steps)
    batch = np.resize(images, (_prediction_batch(config), *images.shape[1:]))
    variables = [*model.weights, *model.optimizer.variables]
    return {
        "step_seconds": step_seconds,
        "prediction_seconds": _median_seconds(lambda: model.predict_on_batch(batch), steps),
        "parameters": model.num_parameters,
        "model_bytes": sum(4 * math.prod(variable.shape) for variable in variables),
        "map_size": map_size,
    }


def _prediction_batch(config):
    """Images a batch of a prediction: a run predicts arrays in larger batches than files."""
    if config.dataset == "digits" and config.model != "backbone":
        return 128
    return config.batch_size


def _compiled_model(config):
    train, _, num_labels = num_images(config) or (1000, 0, 10)
    model = make_model(config, num_labels)
    loss = make_loss(config, config.expected_positives or 1.0, train, num_labels)
    optimizer = make_optimizer(config, math.ceil(train / config.batch_size))
    model.compile(optimizer, loss, jit_compile=config.jit_compile)
    return model


def _random_batch(config, model, map_size):
    """Images `(B, H, W, 3)`, and labels `(B, L)` or a dict of all that the loss wants."""
    random = np.random.default_rng(0)
    size, num_labels = config.batch_size, model.num_labels
    shape = (size, config.image_size, config.image_size, 3)
    images = random.integers(0, 256, shape, dtype="uint8")
    labels = np.zeros((size, num_labels), "int8")
    labels[np.arange(size), random.integers(num_labels, size=size)] = 1
    wanted = model.loss.needs
    shapes = {
        "expected_negatives": (size, num_labels),
        "average": (size, num_labels),
        "average_maps": (size, *(map_size or ()), num_labels),
        "pseudo_labels": (size, num_labels),
    }
    targets = {
        name: random.random(shape, "float32") for name, shape in shapes.items() if name in wanted
    }
    if "image_index" in wanted:
        targets["image_index"] = np.arange(size, dtype="int32") % (num_images(config) or (1000,))[0]
    return images, {"labels": labels, **targets} if targets else labels


def _median_seconds(function, repeats):
    """Median of at most `repeats` calls, but for the first two: these compile and warm up.

    Once there are two, no more are made after `_SECONDS`; of slow calls the second one counts.
    """
    seconds = []
    while len(seconds) < 2 or (len(seconds) < repeats + 2 and sum(seconds[1:]) < _SECONDS):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[2:] or seconds[1:])


def main(path):
    """Prints the dict of `measure` for the settings in a YAML file, as the last line."""
    with open(path, encoding="utf-8") as file:
        config = TrainConfig(**yaml.safe_load(file))
    print(json.dumps(measure(config)))


if __name__ == "__main__":
    main(*sys.argv[1:])

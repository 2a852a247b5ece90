"""A run's images as a frozen backbone sees them: computed once, trained on in every epoch."""

import dataclasses
import hashlib
import json
import os

import keras
import numpy as np

from keras_patchpu.datasets import ImageFiles
from keras_patchpu.datasets.image_batches import ArrayBatches
from keras_patchpu.utils.progress_bar import progress_bar
from keras_patchpu.utils.whole_files import whole_file, write_whole
from patchpu.training.data import RunData, passes

# Features that need more bytes lie in a file of the run folder.
MEMORY_BYTES = 2**31
_DTYPE = "float16"


@dataclasses.dataclass(frozen=True)
class FeatureData(RunData):
    """`RunData` with features in the place of images.

    Attributes:
        training_features: float16 `(N, K, P, C)`: of K copies of each image, first of itself.
        validation_features: float16 `(M, P, C)`.
    """

    training_features: np.ndarray
    validation_features: np.ndarray

    def training_batches(self, config, epoch, targets=None):
        return _FeatureBatches(
            self.training_features,
            self.observed,
            config.batch_size,
            config.seed,
            epoch,
            targets,
            passes(config, len(self.observed)),
        )

    def training_images(self, config):
        return self.training_features[:, 0]

    def first_training_images(self, config, count):
        return self.training_features[:count, 0]

    def validation_images(self, config):
        return self.validation_features


class _FeatureBatches(ArrayBatches):
    """Batches of one copy of each image, another one in each epoch."""

    def rows_of(self, chosen):
        copies = self.rows.shape[1]
        if copies == 1:
            return self.rows[chosen, 0], None
        copy = np.random.default_rng([self.seed, self.epoch, 1]).integers(
            copies, size=len(self.rows)
        )
        return self.rows[chosen, copy[chosen]], None


def with_features(config, model, data, folder):
    """`FeatureData` of a run's data, computed or, of a run that goes on, read again.

    Args:
        config: `TrainConfig`.
        model: `BackboneClassifier`, whose backbone is frozen.
        data: `RunData`.
        folder: `RunFolder`; large features lie in it until the run has ended.
    """
    part = model.fused().part("patch_features")
    places, channels = model.output["patch_features"].shape[1:]
    copies = config.augmented_copies if config.augment else 1
    shapes = {
        "training": (len(data.observed), copies, places, channels),
        "validation": (len(data.validation.labels), places, channels),
    }
    num_bytes = sum(np.prod(shape, dtype="int64") for shape in shapes.values()) * 2
    found = {}
    for name, shape in shapes.items():
        if num_bytes <= MEMORY_BYTES:
            features = np.empty(shape, _DTYPE)
            _fill(features, name, config, part, data)
        else:
            path = folder / f"features-{name}.npy"
            digest = _digest(config, model, data, name, shape)
            features = _read(path, shape, digest)
            if features is None:
                with whole_file(path) as temporary:
                    features = np.lib.format.open_memmap(temporary, "w+", _DTYPE, shape)
                    _fill(features, name, config, part, data)
                    features.flush()
                write_whole(path.with_suffix(".json"), json.dumps(digest) + "\n")
                features = _read(path, shape, digest)
        found[f"{name}_features"] = features
    own = {field.name: getattr(data, field.name) for field in dataclasses.fields(RunData)}
    return FeatureData(**own, **found)


def remove_features(folder):
    """Removes the files of a run that has ended."""
    for name in ("training", "validation"):
        for suffix in (".npy", ".json"):
            (folder / f"features-{name}{suffix}").unlink(missing_ok=True)


def _fill(features, name, config, part, data):
    """Computes the features of all images, with a bar that tells how far it is."""
    validation = name == "validation"
    copies = 1 if validation else features.shape[1]

    def batches():
        for copy in range(copies):
            for numbers, images in data.read_once(config, validation, copy):
                filled = np.zeros((config.batch_size, *images.shape[1:]), images.dtype)
                filled[: len(images)] = images  # of one size, for which a step is compiled once
                values = part.predict_on_batch(filled)["patch_features"][: len(images)]
                features[numbers if validation else (numbers, copy)] = values
                yield from numbers

    bar = progress_bar(batches(), len(features) * copies)
    bar.set_description(f"features of {name} images")
    for _ in bar:
        pass
    if not np.isfinite(features[:: max(1, len(features) // 100)]).all():
        raise FloatingPointError(
            f"The features of {config.backbone} are larger than half precision can hold, in which "
            "they are kept. Take another --backbone"
        )


def _read(path, shape, digest):
    """Features that were computed of the same, or `None`."""
    note = path.with_suffix(".json")
    if not (path.exists() and note.exists()):
        return None
    if json.loads(note.read_text()) != digest:
        print(f"{path.name} is of other images or another backbone: computed anew", flush=True)
        note.unlink()
        return None
    features = np.load(path, mmap_mode="r", allow_pickle=False)
    return features if features.shape == shape else None


def _digest(config, model, data, name, shape):
    """What features depend on, in short."""
    digest = hashlib.sha256(
        json.dumps([shape, config.seed, config.image_size, config.image_fit]).encode()
    )
    digest.update(json.dumps(keras.saving.serialize_keras_object(model.backbone)).encode())
    for variable in model.backbone.variables:
        digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    images = data.validation if name == "validation" else data.train
    if not isinstance(images, ImageFiles):
        digest.update(np.ascontiguousarray(images.images).tobytes())
        return digest.hexdigest()
    for image, source in zip(images.names, images.sources):
        digest.update(str(image).encode())
        if isinstance(source, bytes):
            digest.update(source)
        else:
            status = os.stat(source)
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()

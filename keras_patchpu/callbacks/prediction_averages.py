"""What EN, EN+CL and EN+SCL remember of each training image from epoch to epoch."""

import os
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

from keras_patchpu.callbacks.load_array import load_array
from keras_patchpu.utils.validation import FileError, check_number
from keras_patchpu.utils.whole_files import link_or_copy

_CHUNK = 512  # images whose heat maps are in memory at once
_AVERAGES, _HEAT_MAPS = "averages.npy", "heat_maps.npy"


class PredictionAverages(keras.callbacks.Callback):
    """Running averages of what the model says of each training image, on disk.

    After each epoch the model predicts the whole training images as they are, and
    `average = momentum * average + (1 - momentum) * prediction`, from the first prediction on.
    With `spatial=True` the same for the sigmoid of the score maps, in half precision and memory-
    mapped: `2 N h w L` bytes, so 2.6 GB for 82,081 images, 80 labels and maps of 14x14 (and
    26 MB for the averages of the predictions).

    `save` and `load` keep what is known so far. The averages of the score maps are given to the
    folder that is saved by a second name, not copied, where the disk does that.

    Args:
        images: The training images as `predict` takes them, not augmented, in the order of
            `labels`.
        labels: `(N, L)` observed labels in {+1, 0, -1}.
        expected_positives: Mean number of present labels an image, k.
        momentum: In [0, 1). Defaults to `0.8`.
        spatial: Whether to average score maps too. Defaults to `False`.
        folder: Where the averages of the score maps lie while the model trains; on the disk that
            they are saved on. Defaults to `None`: a folder that goes with this object.
        batch_size: Of the prediction, for arrays. Defaults to `None`: Keras's 32.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Verelst et al., arXiv 2203.06127; see `losses.ExpectedNegative`.
    """

    def __init__(
        self,
        images: Any,
        labels: np.ndarray,
        expected_positives: float,
        momentum: float = 0.8,
        spatial: bool = False,
        folder: str | os.PathLike | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        check_number("expected_positives", expected_positives, above=0)
        check_number("momentum", momentum, minimum=0, below=1)
        self.images = images
        self.labels = np.asarray(labels)
        self.expected_positives = expected_positives
        self.momentum = momentum
        self.spatial = spatial
        self.batch_size = batch_size
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="prediction_averages")
            folder = self._temporary.name
        self.folder = pathlib.Path(folder)
        self._file: Any = None
        self._num_files = 0
        self.average: Any = None
        self.heat_maps: Any = None
        self.expected_negatives = self._expected_negatives()

    def targets(
        self, indices: np.ndarray, crops: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """What the losses want to know of some images.

        Args:
            indices: `(B,)` numbers of the images.
            crops: `(B, 5)`, how they are augmented now, see `random_crop`. Defaults to
                `None`: not.

        Returns:
            Dict of `"expected_negatives"` (B, L), `"average"` (B, L) and, with `spatial`,
            `"average_maps"` (B, h, w, L), float32. Before the first epoch's end averages are
            zeros, and all unobserved labels expected negatives.
        """
        unknown = self.average is None
        found = {
            "expected_negatives": self.expected_negatives[indices].astype("float32"),
            "average": np.zeros((len(indices), self.labels.shape[1]), "float32")
            if unknown
            else self.average[indices],
        }
        if self.spatial:
            if self.heat_maps is None:
                shape = (len(indices), *self._map_shape())
                found["average_maps"] = np.zeros(shape, "float32")
            else:
                maps = self.heat_maps[np.asarray(indices)].astype("float32")
                found["average_maps"] = maps if crops is None else crop_maps(maps, crops)
        return found

    def set_model(self, model):
        if model is not self.model:  # one that is compiled for prediction once
            names = ["probabilities", "score_maps"] if self.spatial else ["probabilities"]
            self._predicting = model.part(*names)
        super().set_model(model)
        shape = self._map_shape() if self.spatial else None
        if self.heat_maps is not None and self.heat_maps.shape[1:] != shape:
            raise FileError(
                f"Expected heat maps of the shape {shape} in {self.folder}. Received: "
                f"{self.heat_maps.shape[1:]}: they are of another run"
            )

    def _map_shape(self):
        """`(h, w, L)` of the model's score maps."""
        # Not of `self.model`: reading that brings JAX's values into the layers, which a thread
        # that reads batches must not do while a step is computed.
        return tuple(self._predicting.output["score_maps"].shape[1:])

    def on_epoch_end(self, epoch, logs=None):
        if not self.spatial:
            self.average = self._updated()
        else:
            former, self._file = self._file, self._new_file()
            shape = (len(self.labels), *self._map_shape())
            maps = np.lib.format.open_memmap(self._file, "w+", "float16", shape)
            _reserve(self._file)
            self.average = self._updated(maps)
            maps.flush()
            del maps
            self._open_maps(self._file)
            if former is not None:
                former.unlink()
        self.expected_negatives = self._expected_negatives()

    def save(self, path: str | os.PathLike) -> None:
        """Writes what is known so far into a folder, as `averages.npy` and `heat_maps.npy`."""
        if self.average is not None:
            np.save(pathlib.Path(path, _AVERAGES), self.average)
        if self.heat_maps is not None:
            link_or_copy(self._file, pathlib.Path(path, _HEAT_MAPS))

    def load(self, path: str | os.PathLike) -> None:
        """Goes on from what `save` wrote after an epoch.

        Raises:
            FileError: A file is missing, damaged, or of other images.
        """
        averages, maps = pathlib.Path(path, _AVERAGES), pathlib.Path(path, _HEAT_MAPS)
        needed = [averages, maps] if self.spatial else [averages]
        missing = [str(file) for file in needed if not file.exists()]
        if missing:
            raise FileError(f"Expected the averages to go on from. Missing: {', '.join(missing)}")
        self.average = load_array(averages, self.labels.shape)
        if self.spatial:
            self._open_maps(maps)
            self._file = self._new_file()
            link_or_copy(maps, self._file)
            self._open_maps(self._file)
        self.expected_negatives = self._expected_negatives()

    def _new_file(self):
        """Path in the folder for averages of the score maps, beside those of the epoch before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._num_files += 1
        return self.folder / f"heat_maps-{self._num_files}.npy"

    def _open_maps(self, file):
        count, num_labels = self.labels.shape
        self.heat_maps = load_array(file, (count, None, None, num_labels), in_memory=False)

    def _updated(self, maps=None):
        """The new averages `(N, L)`; those of the score maps are written to `maps`."""
        average = np.empty(self.labels.shape, "float32")
        # Whole score maps of a large set would not fit: predicted and written in parts.
        for part, images in self._parts():
            outputs = self._predicting.predict(images, self.batch_size, verbose=0)
            before = None if self.average is None else self.average[part]
            average[part] = self._mixed(before, outputs["probabilities"])
            if maps is not None:
                before = None if self.heat_maps is None else self.heat_maps[part]
                maps[part] = self._mixed(before, 1 / (1 + np.exp(-outputs["score_maps"])))
        return average

    def _mixed(self, before, new):
        if before is None:
            return new
        return self.momentum * before.astype("float32") + (1 - self.momentum) * new

    def _parts(self):
        """Pairs of a slice of the images and what `predict` takes of them."""
        if not isinstance(self.images, np.ndarray):
            for part, images in self.images.parts(_CHUNK):
                yield part, images
            return
        for start in range(0, len(self.images), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(self.images)))
            yield part, self.images[part]

    def _expected_negatives(self):
        """Unobserved labels but those expected to be present, bool `(N, L)`."""
        unobserved = self.labels == 0
        negatives = unobserved.copy()
        if self.average is None:
            return negatives
        # Observed positives are among the k N expected ones.
        expected = round(self.expected_positives * len(self.labels)) - int((self.labels > 0).sum())
        places = np.flatnonzero(unobserved.ravel())
        expected = min(max(expected, 0), len(places))
        if expected:
            scores = self.average.ravel()[places]
            # Stable, so that of equal ones the same are taken in every run.
            highest = np.argsort(-scores, kind="stable")[:expected]
            negatives.ravel()[places[highest]] = False
        return negatives


def crop_maps(maps, crops):
    """Cuts maps as their images were cut, flipped and resized to the same size again.

    Bilinear between the middles of places, half-pixel centres; beyond the middles at the edge
    the edge's values go on.

    Args:
        maps: `(B, h, w, L)`.
        crops: `(B, 5)`: top, left, bottom and right from 0 to 1, and 1 if mirrored.

    Returns:
        float32 `(B, h, w, L)`.
    """
    top, left, bottom, right, mirrored = np.asarray(crops, "float64").T
    rows = _resampling(top, bottom, maps.shape[1])
    columns = _resampling(left, right, maps.shape[2])
    columns = np.where(mirrored[:, None, None] > 0, columns[:, ::-1], columns)
    cut = np.einsum("bih,bhwl->biwl", rows, maps, optimize=True)
    return np.einsum("bjw,biwl->bijl", columns, cut, optimize=True).astype("float32")


def _resampling(start, end, size):
    """Weights `(B, size, size)` of old places in each new one along an axis."""
    middles = (np.arange(size) + 0.5) / size
    wanted = start[:, None] + middles * (end - start)[:, None]
    place = np.clip(wanted * size - 0.5, 0, size - 1)
    below = np.floor(place).astype(int)
    share = place - below
    weights = np.zeros((*place.shape, size), "float32")
    np.put_along_axis(weights, below[..., None], (1 - share)[..., None], axis=2)
    above = np.minimum(below + 1, size - 1)[..., None]
    old = np.take_along_axis(weights, above, axis=2)
    np.put_along_axis(weights, above, old + share[..., None], axis=2)
    return weights


def _reserve(path):
    """Takes a file's room on the disk: a write to a memory map that finds none kills a process."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

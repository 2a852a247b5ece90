"""What EM+APL remembers of each training image from epoch to epoch."""

import os
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

from keras_patchpu.callbacks.load_array import load_array
from keras_patchpu.utils.validation import FileError, check_number, check_positive_integer
from keras_patchpu.utils.whole_files import whole_file

# A target of 0 would read as unknown, one of 1 as observed absent.
_SMALLEST_TARGET = 1e-6


class PseudoLabels(keras.callbacks.Callback):
    """Asymmetric pseudo-labels (APL): soft negatives that grow in number from epoch to epoch.

    After each epoch from `warmup_epochs` on but the last, the model predicts all training images
    as they are. Of each label, the images in which it is still unknown and least probable get
    the probability q as target, written `-q`, and keep it. Their number is `share` of the images
    in which the label was not observed, over `num_epochs - warmup_epochs`: at the end `share` of
    them have a target. There are no positive pseudo-labels: hence "asymmetric".

    Each epoch has its own file, `pseudo_labels-EPOCH.npy`, written whole; that of the epoch
    before is deleted when the next epoch begins. So whoever saves the model after this callback
    finds the labels of the model's epoch, whenever a run is killed. `4 N L` bytes: 26 MB for
    82,081 images and 80 labels.

    Args:
        images: The training images as `predict` takes them, not augmented, in the order of
            `labels`.
        labels: `(N, L)` observed labels in {+1, 0, -1}.
        num_epochs: Epochs of training.
        warmup_epochs: Epochs before the first targets. Defaults to `None`: half of the epochs
            and at least 1; the authors take 5 of 10 for VOC and COCO, and 3 or 4 for others.
        share: Of the unknown labels that have a target in the end, 0 to 1. Defaults to `0.9`.
        folder: Where the files are. Defaults to `None`: a folder that goes with this object.
        epochs_done: Number of the epoch to go on from. Defaults to `0`: none.
        batch_size: Of the prediction, for arrays. Defaults to `None`: Keras's 32.

    Raises:
        ValueError: An argument is out of range.
        FileError: The file of the epoch is missing, damaged, or of other images.

    Reference:
        Zhou et al., "Acknowledging the unknown for multi-label learning with single positive
        labels", ECCV 2022, and their code; see `losses.EntropyMaximization`.
    """

    def __init__(
        self,
        images: Any,
        labels: np.ndarray,
        num_epochs: int,
        warmup_epochs: int | None = None,
        share: float = 0.9,
        folder: str | os.PathLike | None = None,
        epochs_done: int = 0,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        check_positive_integer("num_epochs", num_epochs)
        if warmup_epochs is None:
            warmup_epochs = max(num_epochs // 2, 1)
        check_positive_integer("warmup_epochs", warmup_epochs)
        check_number("share", share, minimum=0, maximum=1)
        self.images = images
        self.num_epochs = num_epochs
        self.warmup_epochs = warmup_epochs
        self.share = share
        self.batch_size = batch_size
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pseudo_labels")
            folder = self._temporary.name
        self.folder = pathlib.Path(folder)
        observed = np.asarray(labels)
        self._num_unobserved = (observed == 0).sum(axis=0)
        self.labels = observed.astype("float32")
        if epochs_done:
            path = self._path(epochs_done)
            if not path.exists():
                raise FileError(
                    f"Expected the pseudo-labels after epoch {epochs_done} to go on from. "
                    f"Missing: {path}"
                )
            self.labels = load_array(path, observed.shape)

    def targets(
        self, indices: np.ndarray, crops: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Dict of `"labels"` (B, L) of some images: observed ones, 0, and `-q` for targets q."""
        return {"labels": self.labels[indices]}

    def on_epoch_begin(self, epoch, logs=None):
        for path in self.folder.glob("pseudo_labels-*.npy"):
            if path != self._path(epoch):
                path.unlink()

    def on_epoch_end(self, epoch, logs=None):
        epochs_done = epoch + 1
        if self.warmup_epochs <= epochs_done < self.num_epochs:
            predicted = self.model.predict(self.images, batch_size=self.batch_size, verbose=0)
            self.add(predicted)
        with whole_file(self._path(epochs_done)) as temporary:
            np.save(temporary, self.labels)

    def add(self, predicted: np.ndarray) -> None:
        """Gives targets to the least probable of the labels that are still unknown.

        Args:
            predicted: `(N, L)` probabilities.
        """
        steps = self.num_epochs - self.warmup_epochs
        targets = np.clip(predicted, _SMALLEST_TARGET, 1 - _SMALLEST_TARGET)
        for label, unobserved in enumerate(self._num_unobserved):
            (unknown,) = np.nonzero(self.labels[:, label] == 0)
            # Stable, so that of equal ones the same are taken in every run.
            order = np.argsort(predicted[unknown, label], kind="stable")
            chosen = unknown[order[: int(self.share * unobserved / steps)]]
            self.labels[chosen, label] = -targets[chosen, label]

    def _path(self, epochs_done):
        return self.folder / f"pseudo_labels-{epochs_done}.npy"

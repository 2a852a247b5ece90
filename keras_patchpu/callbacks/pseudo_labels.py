"""What EM+APL remembers of each training image from epoch to epoch."""

import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_patchpu.callbacks.load_array import load_array
from keras_patchpu.utils.validation import FileError, check_number, check_positive_integer

_NONE = -1.0  # where there is no pseudo-label
_NAME = "pseudo_labels.npy"


class PseudoLabels(keras.callbacks.Callback):
    """Asymmetric pseudo-labels (APL): soft negatives that grow in number from epoch to epoch.

    After each epoch from `warmup_epochs` on but the last, the model predicts all training images
    as they are. Of each label, the images in which it is still unknown and least probable get
    the probability as target, and keep it. Their number is `share` of the images in which the
    label was not observed, over `num_epochs - warmup_epochs`: at the end `share` of them have a
    target. There are no positive pseudo-labels: hence "asymmetric".

    `save` and `load` keep what is known so far: `4 N L` bytes, 26 MB for 82,081 images and 80
    labels.

    Args:
        images: The training images as `predict` takes them, not augmented, in the order of
            `labels`.
        labels: `(N, L)` observed labels in {+1, 0, -1}.
        num_epochs: Epochs of training.
        warmup_epochs: Epochs before the first targets. Defaults to `None`: half of the epochs
            and at least 1; the authors take 5 of 10 for VOC and COCO, and 3 or 4 for others.
        share: Of the unknown labels that have a target in the end, 0 to 1. Defaults to `0.9`.
        batch_size: Of the prediction, for arrays. Defaults to `None`: Keras's 32.

    Attributes:
        pseudo_labels: float32 `(N, L)`: targets from 0 to 1, and -1 where there is none.

    Raises:
        ValueError: An argument is out of range.

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
        self.labels = np.asarray(labels)
        self.pseudo_labels = np.full(self.labels.shape, _NONE, "float32")

    def targets(
        self, indices: np.ndarray, crops: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Dict of `"pseudo_labels"` (B, L) of some images: targets from 0 to 1, -1 for none."""
        return {"pseudo_labels": self.pseudo_labels[indices]}

    def on_epoch_end(self, epoch, logs=None):
        if self.warmup_epochs <= epoch + 1 < self.num_epochs:
            self.add(self.model.predict(self.images, batch_size=self.batch_size, verbose=0))

    def save(self, path: str | os.PathLike) -> None:
        """Writes what is known so far as `pseudo_labels.npy` into a folder."""
        np.save(pathlib.Path(path, _NAME), self.pseudo_labels)

    def load(self, path: str | os.PathLike) -> None:
        """Goes on from what `save` wrote.

        Raises:
            FileError: The file is missing, damaged, or of other images.
        """
        file = pathlib.Path(path, _NAME)
        if not file.exists():
            raise FileError(f"Expected the pseudo-labels to go on from. Missing: {file}")
        self.pseudo_labels = load_array(file, self.labels.shape)

    def add(self, predicted: np.ndarray) -> None:
        """Gives targets to the least probable of the labels that are still unknown.

        Args:
            predicted: `(N, L)` probabilities.
        """
        steps = self.num_epochs - self.warmup_epochs
        unobserved = self.labels == 0
        still_unknown = unobserved & (self.pseudo_labels == _NONE)
        for label, count in enumerate(unobserved.sum(axis=0)):
            (unknown,) = np.nonzero(still_unknown[:, label])
            # Stable, so that of equal ones the same are taken in every run.
            order = np.argsort(predicted[unknown, label], kind="stable")
            chosen = unknown[order[: int(self.share * count / steps)]]
            self.pseudo_labels[chosen, label] = predicted[chosen, label]

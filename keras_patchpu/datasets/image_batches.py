"""Batches of arrays in an order that a resumed run repeats."""

import math
from collections.abc import Callable

import keras
import numpy as np
from PIL import Image

from keras_patchpu.datasets.read_image import cropped, random_crop
from keras_patchpu.utils.array_checks import check_labels, check_pixels


class ArrayBatches(keras.utils.PyDataset):
    """Shuffled batches of the rows of an array and their labels, by seed and epoch only.

    The last batch of an epoch may be smaller. Works with `fit` on every backend; call
    `fit(..., shuffle=False)`, since the order is already random.

    Args:
        rows: `(N, ...)` array, such as features of images.
        labels: `(N, L)` array without NaN.
        batch_size: Rows a batch.
        seed: Integer seed of the order.
        epoch: Number of epochs already done, when a run goes on. Defaults to `0`.
        targets: Function of the `(B,)` numbers of the rows and what was cropped of them (`None`)
            that gives a dict of arrays for the loss. With it labels come as a dict of them and
            of `"labels"`. Defaults to `None`.
        passes: How often an epoch goes through all rows. Defaults to `1`.

    Raises:
        ValueError: An array is not as above; the message has the index of the first row.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        targets: Callable[..., dict[str, np.ndarray]] | None = None,
        passes: int = 1,
    ) -> None:
        super().__init__()
        if len(rows) != len(labels):
            raise ValueError(
                "Expected as many `images` as `labels`. Received: "
                f"{len(rows)} images, {len(labels)} rows of labels"
            )
        for values, check in ((rows, self.check_rows), (labels, check_labels)):
            if isinstance(values, np.ndarray):
                check(values)
        self.rows = rows
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.targets = targets
        self.passes = passes
        self.share = np.asarray  # all: see `distribution.Shares`
        self._shuffle()

    def check_rows(self, rows: np.ndarray) -> None:
        """Raises a ValueError unless the rows are as they should be; here any will do."""

    def _shuffle(self):
        random = np.random.default_rng([self.seed, self.epoch])
        orders = [random.permutation(len(self.rows)) for _ in range(self.passes)]
        self._order = np.concatenate(orders)

    def __len__(self):
        return math.ceil(len(self._order) / self.batch_size)

    def numbers(self, index: int) -> np.ndarray:
        """Numbers of the rows of a batch."""
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def rows_of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows of these numbers as they are in this epoch, and what was cropped of them."""
        return self.rows[chosen], None

    def __getitem__(self, index):
        chosen = self.share(self.numbers(index))
        rows, crops = self.rows_of(chosen)
        return rows, with_targets(self.labels, chosen, crops, self.targets)

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()


class ImageBatches(ArrayBatches):
    """Shuffled batches of images and labels; the order depends only on seed and epoch.

    As `ArrayBatches`, with

    Args:
        images: `(N, H, W, 3)` array of finite values from 0 to 255, which are looked at once
            unless it is uint8.
        labels, batch_size, seed, epoch, targets: As of `ArrayBatches`; crops are `(B, 5)`.
        augment: Whether images are cropped at random, see `random_crop`, but not mirrored: a
            mirrored digit is none. The same image in the same epoch always in the same way.
            Defaults to `False`.

    Raises:
        ValueError: An array is not as above; the message has the index of the first image.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        augment: bool = False,
        targets: Callable[..., dict[str, np.ndarray]] | None = None,
    ) -> None:
        super().__init__(images, labels, batch_size, seed, epoch, targets)
        self.augment = augment

    def check_rows(self, rows):
        check_pixels(rows)

    def rows_of(self, chosen):
        images, crops = super().rows_of(chosen)
        if self.augment:
            crops = crops_of(chosen, self.seed, self.epoch, flip=False)
            images = np.stack([_crop_array(image, crop) for image, crop in zip(images, crops)])
        return images, crops


def crops_of(indices, seed, epoch, flip=True):
    """Crops `(B, 5)` of images by their numbers, the same whenever they are asked for."""
    return np.stack(
        [random_crop(np.random.default_rng([seed, epoch, index]), flip) for index in indices]
    )


def with_targets(labels, indices, crops, targets):
    """What a batch gives for the loss: labels, or a dict of them and of what `targets` adds."""
    if targets is None:
        return labels[indices]
    return {"labels": labels[indices], **targets(indices, crops)}


def _crop_array(image, crop):
    whole = Image.fromarray(image)
    part = cropped(whole, crop)
    return np.asarray(part.resize(whole.size, Image.Resampling.BILINEAR))

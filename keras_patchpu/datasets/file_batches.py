"""Batches of image files, read ahead in threads."""

import itertools
import math
import os
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_patchpu.datasets.image_batches import crops_of, with_targets
from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.datasets.read_image import ImageError, read_image
from keras_patchpu.utils.progress_bar import progress_bar
from keras_patchpu.utils.read_ahead import read_ahead
from keras_patchpu.utils.validation import MAX_PIXELS

_AHEAD = 2  # batches
_AHEAD_CHECKED = 256  # images; of one that was checked nothing is kept
_MOST_NAMED = 10  # broken images in one message


class FileBatches(keras.utils.PyDataset):
    """Batches of `ImageFiles`, the same on every backend.

    Threads read the next two batches while the model works on one. With a seed the order is
    random and depends only on seed and epoch, so that a resumed run repeats it; the last
    batch of an epoch may be smaller. Call `fit(..., shuffle=False)`.

    Args:
        files: `ImageFiles`.
        size: `(height, width)` of the images in pixels.
        batch_size: Images a batch.
        fit: How images come to their size, see `read_image`. Defaults to `"stretch"`.
        labels: `(N, L)` labels to give with the images. Defaults to `None`: `files.labels`.
        seed: Integer seed of the order and of the augmentation. Defaults to `None`: the order
            of the files.
        epoch: Number of epochs already done, when a run goes on. Defaults to `0`.
        augment: Whether images are flipped, cropped and coloured at random, see `read_image`;
            the same image in the same epoch always in the same way. Defaults to `False`.
        targets: As of `ImageBatches`. Defaults to `None`.
        max_pixels: Largest image that is read, see `read_image`.
        cache_bytes: Images are kept in memory if all of them need no more than this.
            Defaults to 2 GiB.
        workers: Threads. Defaults to `None`: one for each core.
    """

    def __init__(
        self,
        files: ImageFiles,
        size: tuple[int, int],
        batch_size: int,
        fit: str = "stretch",
        labels: np.ndarray | None = None,
        seed: int | None = None,
        epoch: int = 0,
        augment: bool = False,
        targets: Callable[..., dict[str, np.ndarray]] | None = None,
        max_pixels: int = MAX_PIXELS,
        cache_bytes: int = 2**31,
        workers: int | None = None,
    ) -> None:
        # Not Keras's own threads: batches that an epoch left over come up in the next one
        # (keras 3.15), so that the order would depend on the speed of the threads.
        super().__init__(workers=1)
        if augment and seed is None:
            raise ValueError("Expected `seed` with `augment=True`. Received: seed=None")
        self.files = files
        self.size = (size[0], size[1])
        self.batch_size = batch_size
        self.fit = fit
        self.labels = files.labels if labels is None else labels
        self.seed = seed
        self.epoch = epoch
        self.augment = augment
        self.targets = targets
        self.max_pixels = max_pixels
        self.threads = workers or os.cpu_count() or 1
        self.share = np.asarray  # all: see `distribution.Shares`
        needed = len(files) * self.size[0] * self.size[1] * 3
        self._cache = None
        if needed <= cache_bytes and not augment:
            self._cache = np.empty((len(files), *self.size, 3), dtype="uint8")
            self._cached = np.zeros(len(files), dtype=bool)
        self._shuffle()

    def _shuffle(self):
        self._images = None  # read ahead, those of the batch `_next` first
        self._next = None
        self._order = np.arange(len(self.files))
        if self.seed is not None:
            self._order = np.random.default_rng([self.seed, self.epoch]).permutation(self._order)

    def __len__(self):
        return math.ceil(len(self.files) / self.batch_size)

    def __getitem__(self, index):
        chosen = self.share(self.numbers(index))
        if index != self._next:
            ahead = _AHEAD * len(chosen)
            self._images = read_ahead(self._read, self._numbers_from(index), ahead, self.threads)
        self._next = None  # after an image that cannot be read nothing is under way
        images = np.stack(list(itertools.islice(self._images, len(chosen))))
        self._next = index + 1
        crops = crops_of(chosen, self.seed, self.epoch) if self.augment else None
        return images, with_targets(self.labels, chosen, crops, self.targets)

    def parts(self, count: int) -> Iterator[tuple[slice, "FileBatches"]]:
        """The images some at a time: pairs of a slice of them and their batches, in order."""
        for start in range(0, len(self.files), count):
            part = range(start, min(start + count, len(self.files)))
            batches = FileBatches(
                self.files.take(part),
                self.size,
                self.batch_size,
                fit=self.fit,
                max_pixels=self.max_pixels,
                workers=self.threads,
            )
            yield slice(part.start, part.stop), batches

    def numbers(self, index: int) -> np.ndarray:
        """Numbers of the images of a batch."""
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def _numbers_from(self, first):
        """Numbers of the images of a batch and of all that follow, one by one."""
        for index in range(first, len(self)):
            yield from self.share(self.numbers(index))

    def _read(self, image):
        if self._cache is not None and self._cached[image]:
            return self._cache[image]
        random = np.random.default_rng([self.seed, self.epoch, image]) if self.augment else None
        pixels = read_image(
            self.files.sources[image],
            self.size,
            self.fit,
            name=str(self.files.names[image]),
            max_pixels=self.max_pixels,
            augment=random,
        )
        if self._cache is not None:
            self._cache[image] = pixels
            self._cached[image] = True
        return pixels

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()

    def check(self, verbose: bool = True) -> None:
        """Reads every image once, before hours of training stumble over one.

        Args:
            verbose: Whether to show on stderr how far it is. Defaults to `True`.

        Raises:
            ImageError: Some cannot be read; the message names the first ten with their
                reasons, and how many there are.
        """

        def problem(image):
            try:
                self._read(image)
            except ImageError as error:
                return str(error)

        images = range(len(self.files))
        problems = read_ahead(problem, images, _AHEAD_CHECKED, self.threads)
        broken = [text for text in progress_bar(problems, len(images), verbose) if text]
        if broken:
            more = (
                "" if len(broken) <= _MOST_NAMED else f"\n... and {len(broken) - _MOST_NAMED} more"
            )
            raise ImageError(
                f"{len(broken)} of {len(self.files)} images cannot be read. Mend or remove them:\n"
                + "\n".join(broken[:_MOST_NAMED])
                + more
            )

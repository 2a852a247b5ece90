"""Batches of arrays in an order that a resumed run repeats."""

import math

import keras
import numpy as np


class ImageBatches(keras.utils.PyDataset):
    """Shuffled batches of images and labels; the order depends only on seed and epoch.

    The last batch of an epoch may be smaller. Works with `fit` on every backend; call
    `fit(..., shuffle=False)`, since the order is already random.

    Args:
        images: `(N, H, W, 3)` array.
        labels: `(N, L)` array.
        batch_size: Images a batch.
        seed: Integer seed of the order.
        epoch: Number of epochs already done, when a run goes on. Defaults to `0`.
    """

    def __init__(self, images, labels, batch_size, seed, epoch=0):
        super().__init__()
        if len(images) != len(labels):
            raise ValueError(
                "Expected as many `images` as `labels`. Received: "
                f"{len(images)} images, {len(labels)} rows of labels"
            )
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self._shuffle()

    def _shuffle(self):
        random = np.random.default_rng([self.seed, self.epoch])
        self._order = random.permutation(len(self.images))

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.images[chosen], self.labels[chosen]

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()

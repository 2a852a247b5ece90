"""How right the weak negatives are, at the end of every epoch."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.losses import weak_negatives
from keras_patchpu.metrics.negatives_quality import negatives_quality
from keras_patchpu.utils.validation import check_number, check_positive_integer


class WeakNegativeQuality(keras.callbacks.Callback):
    """Adds the quality of the weak negatives of a sample of images to the logs of every epoch.

    `"wn_precision"`, `"wn_recall"` and the other numbers of `negatives_quality`, NaN where one is
    not defined; whatever the loss is that the model trains with. Needs `model.explain`. Put it
    before callbacks that read its values.

    Args:
        images: A fixed sample of N training images: `(N, H, W, 3)`, or batches of them in
            order, such as `FileBatches`.
        observed: `(N, L)` labels that the model trains on, in {+1, 0, -1}.
        labels: `(N, L)` true annotation of these images; values above 0 count as present.
        theta: As of `weak_negatives`, 0 to 1. Defaults to `0.0`.
        batch_size: Images of an array that are explained at a time. Defaults to `32`.

    After each epoch `quality` holds what `negatives_quality` gave.

    Raises:
        ValueError: Numbers of images or labels differ, or an argument is out of range.
    """

    def __init__(
        self,
        images: Any,
        observed: np.ndarray,
        labels: np.ndarray,
        theta: float = 0.0,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        check_number("theta", theta, minimum=0, maximum=1)
        check_positive_integer("batch_size", batch_size)
        observed, labels = np.asarray(observed), np.asarray(labels)
        in_batches = isinstance(images, keras.utils.PyDataset)
        if observed.shape != labels.shape or not in_batches and len(images) != len(labels):
            count = "batches of" if in_batches else len(images)
            raise ValueError(
                "Expected `observed` and `labels` (N, L) of N `images`. Received: shapes "
                f"{observed.shape}, {labels.shape}, {count} images"
            )
        self.images, self.observed, self.labels = images, observed, labels
        self.theta = theta
        self.batch_size = batch_size
        self.quality = None

    def on_epoch_end(self, epoch, logs=None):
        self.quality = negatives_quality(self._weights(), self.labels, self.observed)
        if logs is not None:
            for name, value in self.quality.items():
                logs[f"wn_{name}"] = float("nan") if value is None else value

    def _weights(self):
        """Weak negatives of all images, batch by batch."""
        weights, start = [], 0
        for images in self._batches():
            observed = ops.convert_to_tensor(self.observed[start : start + len(images)])
            embeddings = self.model.explain(images, ("image_embeddings",))["image_embeddings"]
            found = weak_negatives(observed, embeddings, self.theta, True)
            weights.append(ops.convert_to_numpy(found))
            start += len(images)
        return np.concatenate(weights)

    def _batches(self):
        if isinstance(self.images, keras.utils.PyDataset):
            for index in range(len(self.images)):
                yield self.images[index][0]
        else:
            for start in range(0, len(self.images), self.batch_size):
                yield self.images[start : start + self.batch_size]

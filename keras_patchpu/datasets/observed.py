"""The single-positive setting: which of the true labels an annotator would have given."""

import numpy as np

from keras_patchpu.utils.validation import check_positive_integer


def observe_uniform(
    labels: np.ndarray, num_positives: int = 1, num_negatives: int = 0, seed: int = 1200
) -> np.ndarray:
    """Draws the observed labels of each image uniformly among the true ones.

    The draw published with Cole et al.'s code, number for number: one
    `numpy.random.RandomState(seed)` for the whole array, row after row. To meet the
    published splits, sort the images by name first and draw train and validation apart,
    each from the seed.

    Args:
        labels: `(N, L)` true annotation, 0/1.
        num_positives: Observed positives an image, at most; an image with fewer true
            labels has all of them observed. Defaults to `1`.
        num_negatives: Observed negatives an image, at most. Defaults to `0`.
        seed: Integer seed. Defaults to `1200`, the published one.

    Returns:
        int8 array `(N, L)` in {+1 observed present, 0 unknown, -1 observed absent}.

    Raises:
        ValueError: `labels` is not a two-dimensional 0/1 array, or a count is negative.

    Reference:
        Cole et al., "Multi-label learning from single positive labels", CVPR 2021;
        Jouanneau et al., section 4.1, "Datasets".
    """
    check_positive_integer("num_positives", num_positives, minimum=0)
    check_positive_integer("num_negatives", num_negatives, minimum=0)
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            "Expected `labels` to be a two-dimensional array of 0 and 1. Received: "
            f"shape {labels.shape}, values {np.unique(labels)[:5].tolist()}"
        )
    random = np.random.RandomState(seed)
    observed = np.zeros(labels.shape, dtype="int8")
    for row, true in zip(observed, labels):
        for value, indices, count in [
            (1, np.flatnonzero(true == 1), num_positives),
            (-1, np.flatnonzero(true == 0), num_negatives),
        ]:
            # Shuffled even where none is taken: later rows depend on it.
            random.shuffle(indices)
            row[indices[:count]] = value
    return observed

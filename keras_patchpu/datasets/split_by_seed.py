"""Validation images drawn at random."""

import numpy as np

from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.utils.validation import check_number, check_positive_integer


def split_by_seed(
    files: ImageFiles, share: float = 0.1, seed: int = 0
) -> tuple[ImageFiles, ImageFiles]:
    """Draws validation images at random, of each label about the same share.

    No label loses its last image of the training ones: where that would happen, fewer
    images are drawn.

    Args:
        files: `ImageFiles`.
        share: Share of the images to draw, above 0 and below 1. Defaults to `0.1`.
        seed: Integer seed. Defaults to `0`.

    Returns:
        `(train, validation)`, both `ImageFiles` in the order of `files`; at least one
        image each.

    Raises:
        ValueError: An argument is out of range, or no image can be spared.
    """
    check_number("share", share, above=0, below=1)
    check_positive_integer("seed", seed, minimum=0)
    count = len(files)
    wanted = min(max(1, round(share * count)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    present = np.asarray(files.labels) == 1
    left = present.sum(axis=0)  # of each label in train
    goal = np.round(share * left)
    drawn = np.zeros(count, dtype=bool)

    def draw(candidates, enough):
        for index in candidates:
            if drawn.sum() >= wanted or enough():
                return
            if not drawn[index] and (left[present[index]] > 1).all():
                drawn[index] = True
                left[present[index]] -= 1

    # Rare labels first: an image of a frequent one is easily found afterwards.
    for label in np.argsort(left, kind="stable"):
        of_label = order[present[order, label]]
        draw(of_label, lambda label=label: (drawn & present[:, label]).sum() >= goal[label])
    draw(order, lambda: False)
    if not drawn.any():
        raise ValueError(
            "Expected an image that can be drawn for validation without taking the last one of a "
            f"label. Received: {count} images of {int((left > 0).sum())} labels, none to spare"
        )
    return files.take(np.flatnonzero(~drawn)), files.take(np.flatnonzero(drawn))

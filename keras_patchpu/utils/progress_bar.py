"""How far a long reading of images is."""

import sys

from tqdm import tqdm

_SECONDS = 0.1
_SECONDS_IN_A_LOG = 30  # where each update is a line


def progress_bar(images, total, shown=True):
    """Iterates over images and shows on stderr how many are done.

    Args:
        images: Iterable.
        total: Their number.
        shown: Whether to show it. Defaults to `True`.

    Returns:
        `tqdm` of `images`.
    """
    seconds = _SECONDS if sys.stderr.isatty() else _SECONDS_IN_A_LOG
    return tqdm(
        images,
        total=total,
        unit="image",
        mininterval=seconds,
        maxinterval=max(10, seconds),
        disable=not shown,
    )

"""Checks of arrays of images and labels."""

import numpy as np

# Pixels that are looked at together: no copy of all images is made, and few steps are.
_PIXELS_AT_ONCE = 2**22


def check_images(images, size=None):
    """Raises a ValueError unless an array holds images of finite values from 0 to 255.

    Args:
        images: NumPy array `(N, H, W, 3)`, N at least 1.
        size: `(height, width)` that they must have. Defaults to `None`: any.
    """
    height, width = size or ("H", "W")
    as_wanted = images.ndim == 4 and images.shape[-1] == 3
    if not as_wanted or size is not None and images.shape[1:3] != tuple(size):
        advice = ""
        if images.ndim == 3 and images.shape[-1] == 3:
            advice = ". For one image take `image[None]`"
        elif images.ndim == 4 and images.shape[-1] == 1:
            advice = ". For grey images take `np.repeat(images, 3, axis=-1)`"
        elif images.ndim == 4 and images.shape[-1] == 4:
            advice = ". To leave transparency out take `images[..., :3]`"
        raise ValueError(
            f"Expected images of the shape (N, {height}, {width}, 3). Received: shape "
            f"{images.shape}{advice}"
        )
    if not len(images):
        raise ValueError(f"Expected at least one image. Received: shape {images.shape}")
    check_pixels(images)


def check_pixels(images):
    """Raises a ValueError unless all values of an array of images are from 0 to 255.

    uint8 needs no look at the pixels; of any other type they are read once.

    Args:
        images: NumPy array `(N, ...)`.
    """
    if images.dtype == "uint8" or not images.size:
        return
    if images.dtype.kind in "cmMOSU":
        raise ValueError(f"Expected images of numbers. Received: dtype {images.dtype}")
    step = max(1, _PIXELS_AT_ONCE // images[0].size)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        if not _are_pixels(part):
            _refuse_first(part, start)


def _are_pixels(values):
    with np.errstate(invalid="ignore"):
        # Of values with a NaN both are NaN, which compares as false.
        return bool(values.min() >= 0 and values.max() <= 255)


def _refuse_first(images, start):
    index = next(i for i, image in enumerate(images) if not _are_pixels(image))
    image = images[index].astype("float64")
    if not np.isfinite(image).all():
        received = f"{int((~np.isfinite(image)).sum())} values that are NaN or infinite"
        advice = "Mend the image or leave it out"
    else:
        received = f"values from {image.min():g} to {image.max():g}"
        advice = "Scale the pixels, or cut them off with `np.clip(images, 0, 255)`"
    raise ValueError(
        "Expected images of finite values from 0 to 255. Received: the image of index "
        f"{start + index}, the first such one, has {received}. {advice}"
    )


def check_labels(labels):
    """Raises a ValueError if a NumPy array of labels holds NaN, which would count as unknown."""
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        place = tuple(int(index) for index in np.argwhere(np.isnan(labels))[0])
        raise ValueError(
            "Expected labels of +1 (present), 0 (unknown) and -1 (absent). Received: NaN at index "
            f"{place}, the first such one"
        )


def known_shape(tensor):
    """Shape of a tensor or an array as a tuple, or `None` if not even its rank is known."""
    shape = tensor.shape
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def check_label_shape(labels, num_labels):
    """A ValueError unless labels, arrays or tensors, are `(B, num_labels)`."""
    # One column would be taken for every label without a word.
    shape = known_shape(labels)
    if shape is not None and (len(shape) != 2 or shape[1] not in (num_labels, None)):
        raise ValueError(
            f"Expected labels of the shape (B, {num_labels}), one column for each label of the "
            f"model. Received: shape {shape}"
        )

"""Checks of arguments that several classes share."""

import numbers

# Above this an image is refused before its pixels are decoded: 300 MB as RGB.
MAX_PIXELS = 100_000_000


class FileError(ValueError):
    """A file that cannot be used; the message names it and says why."""


def check_positive_integer(name, value, minimum=1):
    """Raises a ValueError naming the argument unless `value` is an integer >= `minimum`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < minimum:
        kind = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
        raise ValueError(
            f"Expected `{name}` to be {kind}. Received: {name}={value!r} "
            f"(of type {type(value).__name__})"
        )


def check_number(name, value, minimum=None, maximum=None, above=None, below=None):
    """Raises a ValueError naming the argument unless `value` is a number in the range.

    `minimum` and `maximum` are allowed values, `above` and `below` are not.
    """
    bounds = [
        text
        for bound, text in [
            (minimum, f">= {minimum}"),
            (above, f"> {above}"),
            (maximum, f"<= {maximum}"),
            (below, f"< {below}"),
        ]
        if bound is not None
    ]
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # Written so that NaN fails every comparison and is refused.
    inside = is_number and (
        value == value
        and (minimum is None or value >= minimum)
        and (maximum is None or value <= maximum)
        and (above is None or value > above)
        and (below is None or value < below)
    )
    if not inside:
        wanted = " and ".join(bounds)
        raise ValueError(
            f"Expected `{name}` to be a number{' ' + wanted if wanted else ''}. Received: "
            f"{name}={value!r} (of type {type(value).__name__})"
        )


def check_boolean(name, value):
    """Raises a ValueError naming the argument unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"Expected `{name}` to be True or False. Received: {name}={value!r}")


def check_one_of(name, value, allowed):
    """Raises a ValueError naming the argument unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(
            f"Expected `{name}` to be one of {list(allowed)}. Received: {name}={value!r}"
        )


def check_numbers(name, values, count, **bounds):
    """Raises a ValueError naming the argument unless `values` holds `count` fitting numbers."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise ValueError(f"Expected `{name}` to hold {count} numbers. Received: {name}={values!r}")
    for value in values:
        check_number(name, value, **bounds)


def check_patterns(name, patterns):
    """Raises a ValueError naming the argument unless `patterns` is a list of strings."""
    is_list = isinstance(patterns, (list, tuple))
    if not is_list or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(
            f"Expected `{name}` to be a list of regular expressions. Received: {name}={patterns!r}"
        )


def checked_image_size(image_size, minimum=1):
    """`(height, width)` in pixels as a tuple, or a ValueError."""
    if not isinstance(image_size, (list, tuple)) or len(image_size) != 2:
        raise ValueError(
            f"Expected `image_size` to be (height, width). Received: image_size={image_size}"
        )
    for side in image_size:
        check_positive_integer("image_size", side, minimum=minimum)
    return tuple(image_size)

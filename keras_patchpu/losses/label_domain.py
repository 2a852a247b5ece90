"""The label domain: +1 observed present, 0 unknown, -1 observed absent."""

from typing import Any

from keras import ops

from keras_patchpu.utils.array_checks import known_shape


def split_labels(labels: Any, dtype: str = "float32") -> tuple[Any, Any]:
    """Splits labels of the domain {+1, 0, -1} into the paper's z+ and z-.

    Args:
        labels: `(B, L)`, any numeric dtype: `+1` observed present, `0` unknown, `-1`
            observed absent.
        dtype: Of the result. Defaults to `"float32"`.

    Returns:
        Pair of 0/1 tensors `(B, L)`: observed present, observed absent.

    Raises:
        ValueError: There is no image or no label, of which a mean would be NaN.

    Reference:
        Jouanneau et al., section 3, the definition of z+ and z-.
    """
    shape = known_shape(labels)
    if shape is not None and 0 in shape:
        raise ValueError(
            f"Expected labels (B, L) of at least one image and one label. Received: shape {shape}"
        )
    return ops.cast(labels > 0, dtype), ops.cast(labels < 0, dtype)

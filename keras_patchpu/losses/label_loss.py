"""What the losses over labels share: reduction over labels, logarithms, named inputs."""

import keras
from keras import ops

from keras_patchpu.utils.validation import check_number, check_one_of


def take_inputs(loss, y_pred):
    """The entries of the dict `y_pred` that a loss names in `inputs`, in that order.

    In full precision, see below.

    Raises:
        ValueError: `y_pred` is no dict, or lacks one of them.
    """
    if not isinstance(y_pred, dict) or not set(loss.needs) <= set(y_pred):
        received = sorted(y_pred) if isinstance(y_pred, dict) else type(y_pred).__name__
        raise ValueError(
            f"{type(loss).__name__} expects `y_pred` to be a dict with {list(loss.needs)}. "
            f"Received: {received}. The classifiers' `fit` hands them over."
        )
    return [in_full_precision(y_pred[name]) for name in loss.needs]


def in_full_precision(tensor):
    """A tensor of half precision in float32, any other as it is.

    The slope of `log(p + 1e-5)` is up to 100,000, beyond float16: with a weight of 0 it is NaN.
    """
    dtype = getattr(tensor, "dtype", "int32")  # of a list of indices
    is_half = keras.backend.standardize_dtype(dtype) in ("float16", "bfloat16")
    return ops.cast(tensor, "float32") if is_half else tensor


class PerLabelLoss(keras.losses.Loss):
    """A loss with one value for each label, summed or averaged over the labels of an image."""

    def __init__(self, label_reduction, name, **kwargs):
        super().__init__(name=name, **kwargs)
        check_one_of("label_reduction", label_reduction, ("sum", "mean"))
        self.label_reduction = label_reduction

    def reduce_labels(self, losses):
        """Values of the images, `(B,)`, from those of the labels, `(B, L)`."""
        reduce = ops.sum if self.label_reduction == "sum" else ops.mean
        return reduce(losses, axis=-1)

    def get_config(self):
        config = super().get_config()
        config.update({"label_reduction": self.label_reduction})
        return config


class LabelLoss(PerLabelLoss):
    """What the losses over labels and probabilities share: -log(p + epsilon), per image.

    Subclasses give the weight of each label's presence and absence.
    """

    def __init__(self, label_reduction, epsilon, name, **kwargs):
        super().__init__(label_reduction, name, **kwargs)
        check_number("epsilon", epsilon, above=0, below=1)
        self.epsilon = epsilon

    def weighted_crossentropy(self, present, absent, probabilities):
        """Cross entropy of each image, `(B,)`, for weights `(B, L)` of presence and absence."""
        losses = -present * ops.log(probabilities + self.epsilon)
        if absent is not None:
            losses = losses - absent * ops.log(1.0 - probabilities + self.epsilon)
        return self.reduce_labels(losses)

    def get_config(self):
        config = super().get_config()
        config.update({"epsilon": self.epsilon})
        return config

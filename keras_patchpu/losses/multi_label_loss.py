"""What every loss here is: it says what it needs, and gets that by name."""

from collections.abc import Collection
from typing import Any

import keras
from keras import ops

from keras_patchpu.utils.validation import check_number, check_one_of


class MultiLabelLoss(keras.losses.Loss):
    """A loss over labels in {+1, 0, -1} that says which tensors it needs.

    A subclass names them in `needs` and defines `call(y_true, y_pred)`, which gives one value
    for each image, `(B,)`. `y_true` are the labels `(B, L)`, and `y_pred` a dict of the tensors
    by name, checked before `call`. Of a model they are what `LabelClassifier` finds by that
    name: what the model computes, `"epoch"`, or arrays that the data give beside the labels.

    Tensors of half precision are computed with in float32: the slope of `log(p + 1e-5)` is up to
    100,000, beyond float16, and with a weight of 0 it is NaN.

    Attributes:
        needs: Names of what the loss needs. Their order means nothing. Empty: `y_pred` is the
            tensor of probabilities `(B, L)` alone, as with any Keras loss.
        estimator: A layer with weights of the loss's own, which are trained and saved with the
            model. `None`: there are none.

    Args:
        name, reduction, dtype: As of `keras.losses.Loss`.

    Raises:
        ValueError: When called, if `y_pred` is not what the loss needs.
    """

    needs: Collection[str] = ()
    estimator: Any = None

    @property
    def dtype(self) -> str:
        dtype = super().dtype
        return "float32" if dtype in ("float16", "bfloat16") else dtype

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().__call__(y_true, self._needed(y_pred), sample_weight)

    def _needed(self, y_pred):
        """The entries of `y_pred` that the loss needs, or the probabilities as they are."""
        is_dict = isinstance(y_pred, dict)
        if is_dict == bool(self.needs) and (not is_dict or set(self.needs) <= set(y_pred)):
            return {name: y_pred[name] for name in self.needs} if is_dict else y_pred
        wanted = f"a dict with {sorted(self.needs)}" if self.needs else "probabilities (B, L)"
        raise ValueError(
            f"{type(self).__name__} expects `y_pred` to be {wanted}. Received: "
            f"{sorted(y_pred) if is_dict else type(y_pred).__name__}. The classifiers' `fit` "
            "hands over what a loss names in `needs`."
        )


class PerLabelLoss(MultiLabelLoss):
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
        return {**super().get_config(), "label_reduction": self.label_reduction}


class CrossentropyLoss(PerLabelLoss):
    """A weighted cross entropy of probabilities, with epsilon inside its logarithms."""

    def __init__(self, label_reduction, epsilon, name, **kwargs):
        super().__init__(label_reduction, name, **kwargs)
        check_number("epsilon", epsilon, above=0, below=1)
        self.epsilon = epsilon

    def crossentropy(self, present, absent, probabilities):
        """Of each label, `(B, L)`, for weights `(B, L)` of its presence and absence."""
        log_present = ops.log(probabilities + self.epsilon)
        log_absent = ops.log(1.0 - probabilities + self.epsilon)
        return -present * log_present - absent * log_absent

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}

"""What the classifiers of images share."""

from typing import Any, Self

import keras
import numpy as np

from keras_patchpu.models.multi_label_classifier import MultiLabelClassifier
from keras_patchpu.utils.array_checks import check_images


class ImageClassifier(MultiLabelClassifier):
    """A `MultiLabelClassifier` of images of one size, with values from 0 to 255."""

    image_size: tuple[int, int]
    image_fit: str

    def check_inputs(self, inputs: Any) -> None:
        """Raises a ValueError unless an array of images has the model's size and pixels."""
        if isinstance(inputs, np.ndarray):
            check_images(inputs, self.image_size)

    def shared_config(self) -> dict[str, Any]:
        """What the configurations of all of them hold, for a `get_config`."""
        return {
            "label_names": self.label_names,
            "thresholds": self.thresholds,
            "image_fit": self.image_fit,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **self.inner_state_config(),
        }

    def fused(self) -> Self:
        """The model to predict with: itself, where there is nothing to fold."""
        return self

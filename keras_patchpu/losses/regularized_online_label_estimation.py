"""ROLE: the labels of each training image are parameters, learnt beside the network."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import MultiLabelLoss
from keras_patchpu.utils.validation import check_number, check_positive_integer

# Estimates that training starts from, as in Cole et al.'s code: of observed labels, and the
# range of the others around 0.5.
_OBSERVED_PRESENT = 0.995
_OBSERVED_ABSENT = 0.005
_SPREAD = 0.1


@keras.saving.register_keras_serializable(package="keras_patchpu")
class RegularizedOnlineLabelEstimation(MultiLabelLoss):
    """ROLE: network and estimated labels learn from each other.

    With estimated labels q = sigmoid(estimator logits) of the images of the batch, and sg(.)
    constant for the gradient, averaged over labels and images:

    `1/2 [CE(z+, p) + CE(sg(q), p) + R(p)] + 1/2 [CE(z+, q) + CE(sg(p), q) + R(q)]`

    where `CE(z+, .)` counts the observed positives alone and
    `R(p) = ((mean_b sum_l p - expected_positives) / L)^2`.

    The estimates are one row of weights for each training image, in `loss.estimator`. A
    `MultiLabelClassifier` trains them with its own weights. Their rate should be 10 times the
    network's: `Lamb(..., learning_rate_multipliers={"label_logits$": 10.0})`. Memory: 26 MB for
    82,081 images and 80 labels, 79 MB with the optimizer's moments. Their gradient is dense, as in
    Cole et al.'s code: in a step without an image its row has a gradient of zeros, so that with
    Adam or LAMB its moments decay, and it goes on moving by them.

    Args:
        num_images: Number of training images, N.
        num_labels: Number of labels, L.
        expected_positives: Mean number of present labels an image, k: 1.38 for VOC 2012 and
            2.92 for COCO 2014.
        seed: Integer seed of the first estimates. Defaults to `None`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`, as in Cole et al.'s code.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}. Observed negatives count as unknown in the
            losses, as in Cole et al.'s code, and set where their estimates start.
        y_pred: Dict of `"probabilities"` (B, L) and `"image_index"` (B,): the images' numbers
            from 0 to N - 1. With a `MultiLabelClassifier` `y` is a dict of `"labels"` and
            `"image_index"`.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image, each with the
        whole penalty.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Example:

    ```python
    loss = RegularizedOnlineLabelEstimation(len(images), num_labels=20, expected_positives=1.38)
    loss.start_from(labels)
    model.compile(Lamb(1e-3, learning_rate_multipliers={"label_logits$": 10.0}), loss)
    model.fit(images, {"labels": labels, "image_index": np.arange(len(images))})
    ```

    Reference:
        Cole et al., "Multi-label learning from single positive labels", CVPR 2021, section 4;
        used in Jouanneau et al., section 4.1.
    """

    needs = ("probabilities", "image_index")

    def __init__(
        self,
        num_images: int,
        num_labels: int,
        expected_positives: float,
        seed: int | None = None,
        epsilon: float = 1e-5,
        name: str = "regularized_online_label_estimation",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        check_positive_integer("num_images", num_images)
        check_positive_integer("num_labels", num_labels)
        check_number("expected_positives", expected_positives, above=0)
        check_number("epsilon", epsilon, above=0, below=1)
        if seed is not None:
            check_positive_integer("seed", seed, minimum=0)
        self.num_images = num_images
        self.num_labels = num_labels
        self.expected_positives = expected_positives
        self.seed = seed
        self.epsilon = epsilon
        self.estimator = LabelEstimator(num_images, num_labels, seed, name="label_estimator")

    def start_from(self, labels: np.ndarray) -> None:
        """Sets the estimates of observed labels to 0.995 and 0.005.

        Args:
            labels: `(N, L)` in {+1, 0, -1}, all training images in the order of their numbers.

        Raises:
            ValueError: There is not one row for each image.
        """
        labels = np.asarray(labels)
        logits = ops.convert_to_numpy(self.estimator.label_logits).copy()
        if labels.shape != logits.shape:
            raise ValueError(
                f"Expected `labels` of shape {logits.shape}, one row for each training image. "
                f"Received: shape {labels.shape}"
            )
        logits[labels > 0] = _logit(_OBSERVED_PRESENT)
        logits[labels < 0] = _logit(_OBSERVED_ABSENT)
        self.estimator.label_logits.assign(logits)

    def call(self, y_true, y_pred):
        predicted = y_pred["probabilities"]
        estimated = ops.cast(self.estimator(y_pred["image_index"]), predicted.dtype)
        present, _ = split_labels(y_true, predicted.dtype)
        network = self._half(present, predicted, ops.stop_gradient(estimated))
        estimator = self._half(present, estimated, ops.stop_gradient(predicted))
        return 0.5 * (network + estimator)

    def _half(self, present, learning, target):
        """What one of the two learns from the observed labels and from the other."""
        log_present = ops.log(learning + self.epsilon)
        log_absent = ops.log(1.0 - learning + self.epsilon)
        losses = -(present + target) * log_present - (1.0 - target) * log_absent
        predicted = ops.mean(ops.sum(learning, axis=-1))
        penalty = ops.square((predicted - self.expected_positives) / self.num_labels)
        return ops.mean(losses, axis=-1) + penalty

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "num_images": self.num_images,
                "num_labels": self.num_labels,
                "expected_positives": self.expected_positives,
                "seed": self.seed,
                "epsilon": self.epsilon,
            }
        )
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class LabelEstimator(keras.layers.Layer):
    """One row of label logits for each training image; see the loss above.

    Args:
        num_images: Number of training images, N.
        num_labels: Number of labels, L.
        seed: Integer seed of the logits. Defaults to `None`.

    Call arguments:
        image_index: `(B,)` numbers of images from 0 to N - 1, of any numeric dtype that holds
            them exactly: float32 does up to 16 million.

    Returns:
        float32 estimated probabilities `(B, L)`.
    """

    def __init__(self, num_images, num_labels, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.num_images = num_images
        self.num_labels = num_labels
        self.seed = seed
        limit = _logit(0.5 + _SPREAD)
        self.label_logits = self.add_weight(
            shape=(num_images, num_labels),
            initializer=keras.initializers.RandomUniform(-limit, limit, seed=seed),
            dtype="float32",
            autocast=False,
            name="label_logits",
        )
        self.built = True

    def call(self, image_index):
        # TensorFlow's gradient of a variable's rows would be a sparse one, without the rows
        # that Adam and LAMB go on moving by their moments.
        logits = ops.reshape(self.label_logits * 1.0, (-1,))
        first = ops.cast(image_index, "int32")[:, None] * self.num_labels
        places = first + ops.arange(self.num_labels, dtype="int32")
        return ops.sigmoid(ops.take(logits, places))

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.num_labels)

    def compute_output_spec(self, image_index):
        # Keras's own announces the compute dtype, whatever `call` gives.
        return keras.KerasTensor((*image_index.shape, self.num_labels), dtype="float32")

    def get_config(self):
        config = super().get_config()
        config.update(
            {"num_images": self.num_images, "num_labels": self.num_labels, "seed": self.seed}
        )
        return config


def _logit(probability):
    return float(np.log(probability / (1.0 - probability)))

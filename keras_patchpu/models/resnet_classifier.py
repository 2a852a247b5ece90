"""The paper's point of comparison: ResNet-50 with a score map for each label."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_patchpu.backbones.caffe_pixels import CaffePixels
from keras_patchpu.backbones.weights_download import explained_download
from keras_patchpu.models.image_classifier import ImageClassifier
from keras_patchpu.utils.validation import (
    check_number,
    check_one_of,
    check_positive_integer,
    checked_image_size,
)

# Stages whose first block halves the map, from the last: with 1 instead of 2 the map is finer.
_STRIDED = ("conv5_block1", "conv4_block1", "conv3_block1")


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ResNetClassifier(ImageClassifier):
    """Multi-label classifier with the ResNet-50 of `keras.applications`.

    The feature map `(B, h, w, C)` goes through a 1x1 convolution to a score map of each label,
    `(B, h, w, L)`; its mean is the label's log-odds. The score maps tell where a label is: for
    such a head they are its Grad-CAM (see `metrics.score_map_heat`). 23,551,764 parameters for
    20 labels with the trained statistics.

    Its outputs, by name (see `MultiLabelClassifier`): `"features"` (B, h, w, C), `"score_maps"`
    (B, h, w, L), float32 log-odds of places, `"image_embeddings"` (B, L, C) (of a label: the
    feature map averaged with the softmax of its score map as weights, the nearest thing to the
    paper's), `"logits"` (B, L) and `"probabilities"` (B, L).

    Args:
        num_labels: Number of labels, L.
        image_size: `(height, width)` of the images in pixels, at least 32. Defaults to
            `(448, 448)`.
        weights: `None` to train from scratch, or `"imagenet"`, which Keras downloads. The
            latter needs `width=1`. Defaults to `None`.
        width: Factor of all numbers of channels, above 0 to 1: 1 is ResNet-50, 0.25 has a
            sixteenth of its weights, for small images and processors. Defaults to `1.0`.
        output_stride: Pixels of the image to one place of the feature map: 32 is ResNet-50; 16
            or 8 leave its last one or two halvings out, for small images. Defaults to `32`.
        batch_norm_momentum: Of the running statistics. Defaults to `0.99`.
        label_names, thresholds, image_fit: As of `PatchClassifier`.

    Call arguments:
        images: `(B, H, W, 3)` with values from 0 to 255, uint8 or float.
        training: Whether to use batch statistics.

    Returns:
        Dict of the outputs. `predict` gives the float32 probabilities `(B, L)`.

    Raises:
        ValueError: An argument is out of range. Later, as of `PatchClassifier`.
        FileError: The weights cannot be downloaded. A `ValueError`.

    Reference:
        Jouanneau et al., section 4.1-4.2 and Table 1; He et al., "Deep residual learning for
        image recognition", CVPR 2016; score maps as in Verelst et al., arXiv 2203.06127.
    """

    def __init__(
        self,
        num_labels: int,
        image_size: tuple[int, int] = (448, 448),
        weights: str | None = None,
        width: float = 1.0,
        output_stride: int = 32,
        batch_norm_momentum: float = 0.99,
        label_names: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        image_fit: str = "stretch",
        **kwargs: Any,
    ) -> None:
        dtype = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        check_positive_integer("num_labels", num_labels)
        image_size = checked_image_size(image_size, minimum=32)
        check_one_of("weights", weights, (None, "imagenet"))
        check_number("width", width, above=0, maximum=1)
        check_one_of("output_stride", output_stride, (32, 16, 8))
        check_number("batch_norm_momentum", batch_norm_momentum, minimum=0, below=1)
        check_one_of("image_fit", image_fit, ("stretch", "pad"))
        if weights is not None and width != 1:
            raise ValueError(
                f"Expected `weights=None` with a `width` other than 1. Received: width={width}"
            )

        # === Layers ===
        feature_extractor = _feature_extractor(
            image_size, weights, width, output_stride, batch_norm_momentum, dtype
        )
        scores = keras.layers.Conv2D(num_labels, 1, dtype=dtype, name="scores")

        # === Functional model ===
        images = keras.Input((*image_size, 3), dtype="float32", name="images")
        features = feature_extractor(CaffePixels(dtype=dtype, name="preprocess")(images))
        maps = ops.cast(scores(features), "float32")
        logits = ops.mean(maps, axis=(1, 2))
        outputs = {
            "features": features,
            "score_maps": maps,
            "image_embeddings": _image_embeddings(features, maps),
            "logits": logits,
            "probabilities": ops.sigmoid(logits),
        }
        super().__init__(images, outputs, label_names=label_names, thresholds=thresholds, **kwargs)
        self.dtype_policy = dtype  # `compile` scales the loss under mixed_float16

        # === Config ===
        self.feature_extractor = feature_extractor
        self.scores = scores
        self.image_size = image_size
        self.weights_from = weights
        self.width = width
        self.output_stride = output_stride
        self.batch_norm_momentum = batch_norm_momentum
        self.image_fit = image_fit

    def get_config(self):
        return {
            "num_labels": self.num_labels,
            "image_size": self.image_size,
            "weights": self.weights_from,
            "width": self.width,
            "output_stride": self.output_stride,
            "batch_norm_momentum": self.batch_norm_momentum,
            **self.shared_config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Weights come from the file that the config is of: nothing is downloaded.
        model = cls(**{**config, "weights": None})
        model.weights_from = config["weights"]
        return model


def _image_embeddings(features, maps):
    """Means `(B, L, C)` of features `(B, h, w, C)`, weighted by softmax of maps `(B, h, w, L)`."""
    num_places = maps.shape[1] * maps.shape[2]
    places = ops.reshape(maps, (-1, num_places, maps.shape[-1]))
    weights = ops.softmax(ops.transpose(places, (0, 2, 1)), axis=-1)
    flat = ops.reshape(features, (-1, num_places, features.shape[-1]))
    return ops.matmul(ops.cast(weights, flat.dtype), flat)


def _feature_extractor(image_size, weights, width, output_stride, momentum, dtype):
    """ResNet-50 without its top, of other widths and strides."""
    with explained_download("ResNet50"):
        whole = keras.applications.ResNet50(
            include_top=False, weights=weights, input_shape=(*image_size, 3), name="resnet50"
        )
    unstrided = {32: (), 16: _STRIDED[:1], 8: _STRIDED[:2]}[output_stride]

    def changed(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            config["filters"] = max(1, round(config["filters"] * width))
            if layer.name.startswith(unstrided or ("none",)):
                config["strides"] = (1, 1)
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = momentum
        if not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = dtype
        return type(layer).from_config(config)

    model = keras.models.clone_model(whole, clone_function=changed)
    if weights is not None:
        model.set_weights(whole.get_weights())
    return model

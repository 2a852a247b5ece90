"""Blocks 3 to 5 over the feature map of a pretrained network, whose places stand for patches."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.layers import CodebookAttentionPool, SharedSoftmaxHead
from keras_patchpu.models.block_outputs import classified_patches
from keras_patchpu.models.fold_backbone import with_folded_backbone
from keras_patchpu.models.image_classifier import ImageClassifier
from keras_patchpu.models.multi_label_classifier import MultiLabelClassifier
from keras_patchpu.utils.validation import (
    check_number,
    check_one_of,
    check_positive_integer,
    checked_image_size,
)

_INSIDE = "backbone_in_inference"  # name of the layer around the backbone


@keras.saving.register_keras_serializable(package="keras_patchpu")
class BackboneClassifier(ImageClassifier):
    """Multi-label classifier over the places of a pretrained network's feature map.

    A network that was trained on other images stands for blocks 1 and 2 of Fig. 1: each place of
    its last map, or each token of a transformer, is a patch. Projected to F features, patches go
    through blocks 3 to 5 as in `PatchClassifier`: `CodebookAttentionPool` and
    `SharedSoftmaxHead`.

    The backbone is always called in inference, so that its batch norms and dropout do in training
    what they do in prediction. Frozen (`backbone.trainable = False`, as `backbones.load` gives it)
    it gives the same features in every epoch: compute them once, and train `on_features`.

    Its outputs, by name (see `MultiLabelClassifier`): `"patch_features"` (B, P, C), what the
    backbone gives; `"patch_embeddings"` (B, P, F); and from `"attention"` to `"score_maps"` those
    of `PatchClassifier`.

    Args:
        num_labels: Number of labels, L.
        backbone: Keras model or layer from images `(B, H, W, 3)` with values from 0 to 255 to a
            map of features `(B, h, w, C)`, or to tokens `(B, T, C)`.
        image_size: `(height, width)` of the images in pixels. Defaults to `None`: that of the
            backbone's input.
        num_downsamples: Number of smaller copies of the image that go through the backbone, too.
            It has to take images of any size then. Defaults to `0`.
        downsample_ratio: Integer by which each copy is smaller than the one before. Defaults to
            `2`.
        num_prefix_tokens: Tokens at the front that are no places: class and register tokens.
            Defaults to `0`.
        features: Size of all embeddings, F. Defaults to `256`.
        hidden_units: Neurons of the pooling MLP's first layer. Defaults to `256`.
        feature_dropout: Share of the C features that training leaves out, of an image at all
            places alike. Defaults to `0.5`.
        codebook_initializer: See `CodebookAttentionPool`. Defaults to `None`: normal with
            standard deviation 0.02, so that attention starts even.
        batch_norm_momentum: Of the batch norm of the features. Defaults to `0.9`.
        label_names, thresholds, image_fit: As of `PatchClassifier`.

    Call arguments:
        images: `(B, H, W, 3)`, values from 0 to 255, uint8 or float.
        training: Whether to leave features out and to use batch statistics of them.

    Returns:
        Dict of the outputs. `predict` gives the float32 probabilities `(B, L)`.

    Raises:
        ValueError: An argument is out of range, or the backbone gives no map or tokens of known
            size. Later, as of `PatchClassifier`.

    Example:

    ```python
    model = BackboneClassifier(20, keras_patchpu.backbones.load("efficientnet_lite0"))
    features = model.part("patch_features").predict(images)["patch_features"]
    head = model.on_features()
    head.compile(Lamb(3e-3), WeakNegative())
    head.fit(features, labels, batch_size=16, epochs=10)
    probabilities = model.predict(images)
    ```

    Reference:
        Jouanneau et al., section 3.1, blocks 3 to 5.
    """

    def __init__(
        self,
        num_labels: int,
        backbone: keras.layers.Layer,
        image_size: tuple[int, int] | None = None,
        num_downsamples: int = 0,
        downsample_ratio: int = 2,
        num_prefix_tokens: int = 0,
        features: int = 256,
        hidden_units: int | None = 256,
        feature_dropout: float = 0.5,
        codebook_initializer: keras.Initializer | str | None = None,
        batch_norm_momentum: float = 0.9,
        label_names: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        image_fit: str = "stretch",
        **kwargs: Any,
    ) -> None:
        dtype = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        check_positive_integer("num_downsamples", num_downsamples, minimum=0)
        check_positive_integer("downsample_ratio", downsample_ratio, minimum=2)
        check_positive_integer("num_prefix_tokens", num_prefix_tokens, minimum=0)
        check_positive_integer("features", features)
        check_number("feature_dropout", feature_dropout, minimum=0, below=1)
        check_number("batch_norm_momentum", batch_norm_momentum, minimum=0, below=1)
        check_one_of("image_fit", image_fit, ("stretch", "pad"))
        image_size = checked_image_size(image_size or _image_size_of(backbone))
        codebook_initializer = codebook_initializer or keras.initializers.RandomNormal(stddev=0.02)

        # === Places of all resolutions, side by side ===
        images = keras.Input((*image_size, 3), dtype="float32", name="images")
        in_inference = _InInference(backbone, dtype=dtype, name=_INSIDE)
        places, grids, copy = [], [], images
        for level in range(num_downsamples + 1):
            if level:
                copy = keras.layers.AveragePooling2D(
                    downsample_ratio, dtype="float32", name=f"smaller_{level}"
                )(copy)
            found = in_inference(copy)
            grid = _grid_of(found, copy, num_prefix_tokens)
            if len(found.shape) == 4:
                found = ops.reshape(found, (-1, grid[0] * grid[1], found.shape[3]))
            places.append(found[:, num_prefix_tokens:] if num_prefix_tokens else found)
            grids.append(grid)
        patch_features = ops.concatenate(places, axis=1) if num_downsamples else places[0]

        # === Projection and blocks 3 to 5 ===
        layers = [
            keras.layers.SpatialDropout1D(feature_dropout, dtype=dtype, name="feature_dropout"),
            keras.layers.BatchNormalization(
                momentum=batch_norm_momentum, dtype=dtype, name="feature_norm"
            ),
            keras.layers.Dense(features, dtype=dtype, name="projection"),
            CodebookAttentionPool(
                num_labels,
                hidden_units,
                codebook_initializer=codebook_initializer,
                dtype=dtype,
                name="codebook_attention_pool",
            ),
            SharedSoftmaxHead(num_labels, dtype=dtype, name="shared_softmax_head"),
        ]
        outputs = {
            "patch_features": patch_features,
            **_classified(layers, patch_features, grids[0]),
        }
        super().__init__(images, outputs, label_names=label_names, thresholds=thresholds, **kwargs)

        # === Attributes and configuration ===
        self.dtype_policy = dtype  # `compile` scales the loss under mixed_float16
        self.backbone = backbone
        self.codebook_attention_pool, self.shared_softmax_head = layers[-2:]
        self.image_size = image_size
        self.num_downsamples = num_downsamples
        self.downsample_ratio = downsample_ratio
        self.num_prefix_tokens = num_prefix_tokens
        self.features = features
        self.hidden_units = hidden_units
        self.feature_dropout = feature_dropout
        self.batch_norm_momentum = batch_norm_momentum
        self.image_fit = image_fit
        self.level_grids = grids

    @property
    def patch_boxes(self) -> np.ndarray:
        """Where each place lies in the image: float32 `(P, 4)`, see `PatchGrid.boxes`."""
        boxes = []
        for grid in self.level_grids:
            corners = np.indices(grid).reshape(2, -1).T
            boxes.append(np.hstack([corners, corners + 1]) / (grid * 2))
        return np.concatenate(boxes).astype("float32")

    def on_features(self) -> MultiLabelClassifier:
        """This model without its backbone, with the same layers and weights.

        What it learns, this model knows, too.

        Returns:
            `MultiLabelClassifier` from features `(B, P, C)`, as this model's output
            `"patch_features"`, to the other outputs. Not compiled.
        """
        features = keras.Input(self.output["patch_features"].shape[1:], name="patch_features")
        names = ("feature_dropout", "feature_norm", "projection")
        layers = [self.get_layer(name) for name in names]
        layers += [self.codebook_attention_pool, self.shared_softmax_head]
        return MultiLabelClassifier(
            features,
            _classified(layers, features, self.level_grids[0]),
            label_names=self.label_names,
            thresholds=self.thresholds,
        )

    def fused(self) -> "BackboneClassifier":
        """A copy for prediction, the batch norms of its backbone folded into convolutions.

        The copy has the same probabilities up to rounding (1e-4), in about half the time.

        Returns:
            `BackboneClassifier`, not compiled.
        """
        config = {**self.get_config(), "backbone": with_folded_backbone(self.backbone)}
        state = config.get("inner_state", {}).items()
        config["inner_state"] = {k: changes for k, changes in state if not k.startswith(_INSIDE)}
        model = type(self)(**config)
        for new, own in zip(model.layers, self.layers):
            if own.name != _INSIDE:
                new.set_weights(own.get_weights())
        return model

    def get_config(self):
        initializer = self.codebook_attention_pool.codebook_initializer
        return {
            "num_labels": self.num_labels,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "image_size": self.image_size,
            "num_downsamples": self.num_downsamples,
            "downsample_ratio": self.downsample_ratio,
            "num_prefix_tokens": self.num_prefix_tokens,
            "features": self.features,
            "hidden_units": self.hidden_units,
            "feature_dropout": self.feature_dropout,
            "codebook_initializer": keras.initializers.serialize(initializer),
            "batch_norm_momentum": self.batch_norm_momentum,
            **self.shared_config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects
        )
        return cls(**config)


def _classified(layers, patch_features, grid):
    """Outputs by name from features `(B, P, C)` on, of the layers in their order."""
    *projection, pool, head = layers
    embeddings = patch_features
    for layer in projection:
        embeddings = layer(embeddings)
    return {
        "patch_embeddings": embeddings,
        **classified_patches(pool, head, embeddings, grid),
    }


def _image_size_of(backbone):
    size = tuple((getattr(backbone, "input_shape", None) or ())[1:3])
    if len(size) != 2 or None in size:
        raise ValueError(
            "Expected `image_size` for a backbone that takes images of any size. Received: None"
        )
    return size


class _InInference(keras.layers.Layer):
    """Calls a layer in inference, whatever the model around it does."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=False)


def _grid_of(found, images, num_prefix_tokens):
    """`(rows, columns)` of the places of what a backbone gives for images."""
    shape: tuple = getattr(found, "shape", ())
    if len(shape) not in (3, 4) or None in shape[1:]:
        raise ValueError(
            "Expected `backbone` to give a map of features (B, h, w, C) or tokens (B, T, C) of "
            f"known size for images of {images.shape[1:3]} pixels. Received: {found}"
        )
    if len(shape) == 4:
        return shape[1:3]
    count = shape[1] - num_prefix_tokens
    rows = round((max(count, 0) * images.shape[1] / images.shape[2]) ** 0.5)
    if not rows or count % rows:
        raise ValueError(
            f"Expected tokens of a grid of the shape of the image, {images.shape[1:3]}, behind "
            f"`num_prefix_tokens`. Received: {shape[1]} tokens, "
            f"num_prefix_tokens={num_prefix_tokens}"
        )
    return rows, count // rows

"""The paper's network: blocks 1 to 5 as one Keras model."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.layers import (
    CodebookAttentionPool,
    PatchEmbedder,
    PatchExtractor,
    SharedSoftmaxHead,
)
from keras_patchpu.layers.cpu import xla
from keras_patchpu.models.fold_batch_norms import fold_batch_norms
from keras_patchpu.models.label_classifier import LabelClassifier
from keras_patchpu.utils.validation import check_one_of, checked_image_size

# Patch sides up to which XLA is faster on a CPU with TensorFlow (benchmarks/README.md).
_LARGEST_TRAINED_WITH_XLA = 32
_LARGEST_PREDICTED_WITH_XLA = 16


@keras.saving.register_keras_serializable(package="keras_patchpu")
class PatchClassifier(LabelClassifier):
    """Multi-label classifier over patches at several resolutions (Fig. 1).

    A functional model: `PatchExtractor`, `PatchEmbedder`, `CodebookAttentionPool`,
    `SharedSoftmaxHead`. `compile`, `fit`, `evaluate`, `predict`, `save` and `export` are
    Keras's own. 251,682 parameters for 80 labels and 256 features.

    A loss that needs more than probabilities names it in an attribute `needs` (see
    `WeakNegative`, `LabelClassifier`) and gets a dict of these intermediates as `y_pred`; any
    other Keras loss gets the probabilities.

    Args:
        num_labels: Number of labels, L.
        image_size: `(height, width)` of the images in pixels. Defaults to `(640, 640)`.
        patch_size: Side of a patch in pixels. Defaults to `64`.
        num_downsamples: Number of smaller copies of the image. Defaults to `3`.
        downsample_ratio: Ratio between them. Defaults to `2`.
        strides: Step between patches. Defaults to `None`: `patch_size`.
        max_patches_per_level: Random subsampling in training. Defaults to `None`.
        features: Size of all embeddings, F. Defaults to `256`.
        hidden_units: Neurons of the pooling MLP's first layer. Defaults to `256`.
        codebook_initializer: Of the label codebooks. Defaults to `None`; see
            `CodebookAttentionPool`.
        batch_norm: Whether the embedder has batch norms, see `PatchEmbedder`. Defaults to
            `True`; `fused` makes a model without.
        batch_norm_momentum: Of the embedder's batch norms. Defaults to `0.99`.
        pixel_mean, pixel_variance: Of the embedder's input, see `PatchEmbedder`.
        seed: Integer seed of the patch subsampling. Defaults to `None`.
        label_names: L strings, kept with the model for whoever predicts. Defaults to `None`.
        thresholds: L numbers from 0 to 1: the probability from which each label is predicted,
            kept with the model (`patchpu thresholds` finds them). Defaults to `None`.
        image_fit: How `read_image` made the images, `"stretch"` or `"pad"`, kept with the
            model. Defaults to `"stretch"`.

    Call arguments:
        images: `(B, H, W, 3)` with values from 0 to 255, uint8 or float.
        training: Whether to subsample patches and use batch statistics.

    Returns:
        float32 probabilities `(B, L)`.

    Raises:
        ValueError: An argument is out of range. Later, what `LabelClassifier` says of images and
            labels.

    Example:

    ```python
    model = PatchClassifier(num_labels=20)
    model.compile(Lamb(1e-3, weight_decay=1e-4), WeakNegative())
    model.fit(images, labels, batch_size=16, epochs=25)  # labels in {+1, 0, -1}
    probabilities = model.predict(images)
    ```

    Reference:
        Jouanneau et al., section 3.1, Fig. 1; sizes of section 4.1.
    """

    def __init__(
        self,
        num_labels: int,
        image_size: tuple[int, int] = (640, 640),
        patch_size: int = 64,
        num_downsamples: int = 3,
        downsample_ratio: int = 2,
        strides: int | None = None,
        max_patches_per_level: int | None = None,
        features: int = 256,
        hidden_units: int | None = 256,
        codebook_initializer: keras.Initializer | str | None = None,
        batch_norm: bool = True,
        batch_norm_momentum: float = 0.99,
        pixel_mean: Sequence[float] = (0.0, 0.0, 0.0),
        pixel_variance: Sequence[float] = (1.0, 1.0, 1.0),
        seed: int | None = None,
        label_names: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        image_fit: str = "stretch",
        **kwargs: Any,
    ) -> None:
        dtype = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        image_size = checked_image_size(image_size)
        check_one_of("image_fit", image_fit, ("stretch", "pad"))

        # === Layers ===
        patch_extractor = PatchExtractor(
            patch_size,
            num_downsamples,
            downsample_ratio,
            strides=strides,
            max_patches_per_level=max_patches_per_level,
            seed=seed,
            dtype=dtype,
            name="patch_extractor",
        )
        patch_embedder = PatchEmbedder(
            features,
            batch_norm=batch_norm,
            batch_norm_momentum=batch_norm_momentum,
            pixel_mean=pixel_mean,
            pixel_variance=pixel_variance,
            dtype=dtype,
            name="patch_embedder",
        )
        codebook_attention_pool = CodebookAttentionPool(
            num_labels,
            hidden_units,
            codebook_initializer=codebook_initializer,
            dtype=dtype,
            name="codebook_attention_pool",
        )
        shared_softmax_head = SharedSoftmaxHead(num_labels, dtype=dtype, name="shared_softmax_head")

        # === Functional model ===
        images = keras.Input((*image_size, 3), dtype="float32", name="images")
        patches = patch_extractor(images)
        patch_embeddings = patch_embedder(patches)
        image_embeddings = codebook_attention_pool(patch_embeddings)
        probabilities = shared_softmax_head(image_embeddings)
        super().__init__(images, probabilities, **kwargs)
        self.dtype_policy = dtype  # `compile` scales the loss under mixed_float16

        # === Config ===
        self.patch_extractor = patch_extractor
        self.patch_embedder = patch_embedder
        self.codebook_attention_pool = codebook_attention_pool
        self.shared_softmax_head = shared_softmax_head
        self.num_labels = num_labels
        self.image_size = image_size
        self.codebook_initializer = codebook_attention_pool.codebook_initializer
        self.batch_norm_momentum = batch_norm_momentum
        self.seed = seed
        self.label_names = label_names
        self.thresholds = thresholds
        self.image_fit = image_fit
        self._policy = dtype

    def intermediates(
        self, images: Any, training: bool | None = None, names: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Everything between an image and its probabilities, as tensors, by name.

        Args:
            images: `(B, H, W, 3)`, values from 0 to 255.
            training: As in `call`.
            names: Names of those wanted; others are left out. Defaults to `None`: all.

        Returns:
            Dict of `"patches"` (B, P, h, w, 3), `"patch_embeddings"` (B, P, F),
            `"attention"` (B, L, P), `"image_embeddings"` (B, L, F), `"logits"` (B, L),
            `"probabilities"` (B, L), `"patch_logits"` (B, L, P): the log-odds if all attention
            were on one patch, and `"score_maps"` (B, rows, columns, L): those of the first
            level. (With `max_patches_per_level` the patches of a training step are no grid:
            then there are no score maps.)
        """
        patches = self.patch_extractor(images, training=training)
        patch_embeddings = self.patch_embedder(patches, training=training)
        image_embeddings, attention = self.codebook_attention_pool(
            patch_embeddings, return_attention=True
        )
        probabilities, logits = self.shared_softmax_head(image_embeddings, return_logits=True)
        outputs = {
            "patches": patches,
            "patch_embeddings": patch_embeddings,
            "attention": attention,
            "image_embeddings": image_embeddings,
            "logits": logits,
            "probabilities": probabilities,
        }
        if names is None or "patch_logits" in names:
            patch_logits = self._patch_logits(patch_embeddings)
            outputs["patch_logits"] = ops.transpose(patch_logits, (0, 2, 1))
        sampled = training and self.patch_extractor.max_patches_per_level is not None
        if not sampled and (names is None or "score_maps" in names):
            outputs["score_maps"] = self._score_maps(patch_embeddings)
        return {name: outputs[name] for name in outputs if names is None or name in names}

    def _score_maps(self, patch_embeddings):
        rows, columns = self.patch_extractor.level_grids(self.image_size)[0]
        maps = self._patch_logits(patch_embeddings[:, : rows * columns])
        return ops.reshape(maps, (-1, rows, columns, self.num_labels))

    def _patch_logits(self, patch_embeddings):
        """Log-odds (B, P, L) of all labels by one patch each."""
        embeddings = self.codebook_attention_pool.embed(patch_embeddings)
        return self.shared_softmax_head.log_odds_of_all(embeddings)

    @property
    def patch_boxes(self) -> np.ndarray:
        """Boxes `(P, 4)` of the patches, see `PatchExtractor.patch_boxes`."""
        return self.patch_extractor.patch_boxes(self.image_size)

    def with_strides(self, strides: int) -> "PatchClassifier":
        """A copy with the same weights that moves its window by other steps.

        With small steps it sees patches between those that it was trained on, so that heat maps
        of its attention are finer. Its probabilities are others.

        Args:
            strides: Step between patches in pixels of their level.

        Returns:
            `PatchClassifier`, not compiled.
        """
        model = type(self).from_config({**self.get_config(), "strides": strides})
        # Layer by layer: a compiled model may hold weights of its loss, too.
        for new, own in zip(model.layers, self.layers):
            new.set_weights(own.get_weights())
        return model

    def fused(self) -> "PatchClassifier":
        """A copy for prediction, its batch norms folded into the convolutions.

        The copy has the same probabilities up to rounding (1e-4), no running statistics
        and fewer steps. It is not compiled; to go on training use the model itself.

        Returns:
            `PatchClassifier` with `batch_norm=False`.
        """
        model = type(self).from_config({**self.get_config(), "batch_norm": False})
        fold_batch_norms(self.patch_embedder, model.patch_embedder)
        for name in ("codebook_attention_pool", "shared_softmax_head"):
            getattr(model, name).set_weights(getattr(self, name).get_weights())
        if xla.is_for_tensorflow():
            model.jit_compile = self.patch_extractor.patch_size <= _LARGEST_PREDICTED_WITH_XLA
        return model

    def compile(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any) -> None:
        """As `keras.Model.compile`, with another choice of `jit_compile="auto"`.

        Keras leaves XLA off on a CPU with TensorFlow; for patches of up to 32 pixels it is
        faster (benchmarks/README.md), so then "auto" turns it on. True and False mean what they
        say.
        """
        super().compile(*args, jit_compile=jit_compile, **kwargs)
        self._jit_compile_chosen = jit_compile
        if jit_compile == "auto" and not self.run_eagerly and xla.is_for_tensorflow():
            self.jit_compile = self.patch_extractor.patch_size <= _LARGEST_TRAINED_WITH_XLA

    def get_compile_config(self):
        # What was asked for, not what it came to on this machine.
        config = super().get_compile_config()
        return {**config, "jit_compile": self._jit_compile_chosen} if self.compiled else config

    def get_config(self):
        extractor = self.patch_extractor
        return {
            "num_labels": self.num_labels,
            "image_size": self.image_size,
            "patch_size": extractor.patch_size,
            "num_downsamples": extractor.num_downsamples,
            "downsample_ratio": extractor.downsample_ratio,
            "strides": extractor.strides,
            "max_patches_per_level": extractor.max_patches_per_level,
            "features": self.patch_embedder.features,
            "hidden_units": self.codebook_attention_pool.hidden_units,
            "codebook_initializer": keras.initializers.serialize(self.codebook_initializer),
            "batch_norm": self.patch_embedder.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "pixel_mean": self.patch_embedder.pixel_mean,
            "pixel_variance": self.patch_embedder.pixel_variance,
            "seed": self.seed,
            "label_names": self.label_names,
            "thresholds": self.thresholds,
            "image_fit": self.image_fit,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self._policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Files of before the first release hold a setting that changed memory, not results.
        return cls(**{name: config[name] for name in config if name != "rematerialize"})

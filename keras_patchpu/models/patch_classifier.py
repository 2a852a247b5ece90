"""The paper's network: blocks 1 to 5 as one Keras model."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_patchpu.layers import (
    CodebookAttentionPool,
    PatchEmbedder,
    PatchExtractor,
    SharedSoftmaxHead,
)
from keras_patchpu.layers.cpu import xla
from keras_patchpu.models.block_outputs import classified_patches
from keras_patchpu.models.fold_batch_norms import with_folded_batch_norms
from keras_patchpu.models.image_classifier import ImageClassifier
from keras_patchpu.utils.validation import check_one_of, checked_image_size

# Patch sides up to which XLA is faster on a CPU with TensorFlow (benchmarks/README.md).
_LARGEST_TRAINED_WITH_XLA = 32
_LARGEST_PREDICTED_WITH_XLA = 16
_BLOCKS = ("patch_embedder", "pool", "head")  # arguments in whose place others can be given


@keras.saving.register_keras_serializable(package="keras_patchpu")
class PatchClassifier(ImageClassifier):
    """Multi-label classifier over patches at several resolutions (Fig. 1).

    `PatchExtractor`, `PatchEmbedder`, `CodebookAttentionPool`, `SharedSoftmaxHead`: 251,682
    parameters for 80 labels and 256 features.

    Its outputs, by name (see `MultiLabelClassifier`):

    - `"patches"` (B, P, h, w, 3), `"patch_embeddings"` (B, P, F), `"attention"` (B, L, P),
      `"image_embeddings"` (B, L, F), `"logits"` (B, L) and `"probabilities"` (B, L), the steps of
      Fig. 1 one after the other;
    - `"patch_logits"` (B, L, P), the log-odds if all attention were on one patch, and
      `"score_maps"` (B, rows, columns, L), those of the first level. (With
      `max_patches_per_level` the patches of a training step are no grid: there are no maps.)

    Args:
        num_labels: Number of labels, L.
        image_size: `(height, width)` of the images in pixels. Defaults to `(640, 640)`.
        patch_size: Side of a patch in pixels. Defaults to `64`.
        num_downsamples: Number of smaller copies of the image. Defaults to `3`.
        downsample_ratio, strides, max_patches_per_level, seed: As of `PatchExtractor`.
        features: Size of all embeddings, F. Defaults to `256`.
        hidden_units: Neurons of the pooling MLP's first layer. Defaults to `256`.
        codebook_initializer: See `CodebookAttentionPool`. Defaults to `None`.
        batch_norm: Whether the embedder has batch norms; `fused` makes one without. Defaults to
            `True`.
        batch_norm_momentum: Of the embedder's batch norms. Defaults to `0.99`.
        pixel_mean, pixel_variance: Of the embedder's input, see `PatchEmbedder`.
        patch_embedder: Layer or model in the place of `PatchEmbedder`, from patches
            `(B, P, h, w, 3)` to embeddings `(B, P, F)`. Defaults to `None`: a `PatchEmbedder` of
            the arguments from `features` to `pixel_variance`, which mean nothing otherwise.
        pool: Layer or model in the place of `CodebookAttentionPool`, from `(B, P, F)` to one
            embedding a label, `(B, L, F)`. If its `call` takes `return_attention_scores`, there
            is an output `"attention"`. Defaults to `None`.
        head: Layer or model in the place of `SharedSoftmaxHead`, from `(B, L, F)` to
            probabilities `(B, L)`. If its `call` takes `return_logits`, it gives the log-odds,
            otherwise they are computed from probabilities. Defaults to `None`.
        label_names: L strings, kept with the model. Defaults to `None`.
        thresholds: L numbers from 0 to 1: the probability from which each label is predicted,
            kept with the model (`patchpu thresholds` finds them). Defaults to `None`.
        image_fit: How `read_image` made the images, `"stretch"` or `"pad"`, kept with the
            model. Defaults to `"stretch"`.

    Call arguments:
        images: `(B, H, W, 3)`, values from 0 to 255, uint8 or float.
        training: Whether to subsample patches and use batch statistics.

    Returns:
        Dict of the outputs. `predict` gives the float32 probabilities `(B, L)`.

    Raises:
        ValueError: An argument is out of range. Later, images in a NumPy array have another size
            or values that are not from 0 to 255, or what `MultiLabelClassifier` says of labels.
            (The values of tensors, `tf.data` and generators are not looked at.)

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
        patch_embedder: keras.layers.Layer | None = None,
        pool: keras.layers.Layer | None = None,
        head: keras.layers.Layer | None = None,
        seed: int | None = None,
        label_names: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        image_fit: str = "stretch",
        **kwargs: Any,
    ) -> None:
        dtype = keras.dtype_policies.get(kwargs.pop("dtype", None) or keras.config.dtype_policy())
        image_size = checked_image_size(image_size)
        check_one_of("image_fit", image_fit, ("stretch", "pad"))

        # === Blocks 1 to 5 ===
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
        # Of the blocks, the configuration holds those that were given.
        blocks = zip(_BLOCKS, (patch_embedder, pool, head))
        given = [name for name, block in blocks if block is not None]
        patch_embedder = patch_embedder or PatchEmbedder(
            features,
            batch_norm=batch_norm,
            batch_norm_momentum=batch_norm_momentum,
            pixel_mean=pixel_mean,
            pixel_variance=pixel_variance,
            dtype=dtype,
            name="patch_embedder",
        )
        pool = pool or CodebookAttentionPool(
            num_labels,
            hidden_units,
            codebook_initializer=codebook_initializer,
            dtype=dtype,
            name="codebook_attention_pool",
        )
        head = head or SharedSoftmaxHead(num_labels, dtype=dtype, name="shared_softmax_head")

        # === Fig. 1 ===
        images = keras.Input((*image_size, 3), dtype="float32", name="images")
        patches = patch_extractor(images)
        patch_embeddings = patch_embedder(patches)
        # (Random patches of a training step lie on no grid.)
        grid = None
        if max_patches_per_level is None:
            grid = patch_extractor.grid(image_size).level_grids[0]
        outputs = {
            "patches": patches,
            "patch_embeddings": patch_embeddings,
            **classified_patches(pool, head, patch_embeddings, grid),
        }
        super().__init__(images, outputs, label_names=label_names, thresholds=thresholds, **kwargs)

        # === Attributes, and arguments that `get_config` reads from no layer ===
        self.dtype_policy = dtype  # `compile` scales the loss under mixed_float16
        self.patch_extractor = patch_extractor
        self.patch_embedder = patch_embedder
        self.codebook_attention_pool = pool
        self.shared_softmax_head = head
        self.image_size = image_size
        self.image_fit = image_fit
        self._given = given
        self._settings = {
            "features": features,
            "batch_norm": batch_norm,
            "batch_norm_momentum": batch_norm_momentum,
            "pixel_mean": tuple(map(float, pixel_mean)),
            "pixel_variance": tuple(map(float, pixel_variance)),
        }
        codebook_initializer = getattr(pool, "codebook_initializer", codebook_initializer)
        self._codebook_initializer = keras.initializers.get(codebook_initializer)
        self._hidden_units = hidden_units

    @property
    def level_grids(self) -> list[tuple[int, int]]:
        """`(rows, columns)` of the patches of every level, see `PatchGrid`."""
        return self.patch_extractor.grid(self.image_size).level_grids

    @property
    def patch_boxes(self) -> np.ndarray:
        """Boxes `(P, 4)` of the patches, see `PatchGrid.boxes`."""
        return self.patch_extractor.grid(self.image_size).boxes

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
        model = with_folded_batch_norms(self)
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
        blocks = (self.patch_embedder, self.codebook_attention_pool, self.shared_softmax_head)
        return {
            "num_labels": self.num_labels,
            "image_size": self.image_size,
            "patch_size": extractor.patch_size,
            "num_downsamples": extractor.num_downsamples,
            "downsample_ratio": extractor.downsample_ratio,
            "strides": extractor.strides,
            "max_patches_per_level": extractor.max_patches_per_level,
            # `load_efficientnet_weights` sets two of them.
            **{
                name: getattr(self.patch_embedder, name, own)
                for name, own in self._settings.items()
            },
            "hidden_units": self._hidden_units,
            "codebook_initializer": keras.initializers.serialize(self._codebook_initializer),
            "seed": extractor.seed,
            **{
                name: keras.saving.serialize_keras_object(block) if name in self._given else None
                for name, block in zip(_BLOCKS, blocks)
            },
            **self.shared_config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Files of before the first release hold a setting that changed memory, not results.
        config = {name: config[name] for name in config if name != "rematerialize"}
        for name in _BLOCKS:
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)

"""Block 2: a small EfficientNet embeds every patch."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_patchpu.layers import cpu
from keras_patchpu.layers.cpu.batch_norm import BatchNorm
from keras_patchpu.layers.cpu.conv import Conv
from keras_patchpu.layers.inner_state import LayerOfLayers
from keras_patchpu.layers.mobile_inverted_bottleneck import MobileInvertedBottleneck, normalized
from keras_patchpu.utils.validation import (
    check_number,
    check_numbers,
    check_one_of,
    check_positive_integer,
)

# EfficientNet-B0's first five blocks: name, filters, kernel size, strides, expansion.
BLOCKS = (
    ("block1a", 16, 3, 1, 1),
    ("block2a", 24, 3, 2, 6),
    ("block2b", 24, 3, 1, 6),
    ("block3a", 40, 5, 2, 6),
    ("block3b", 40, 5, 1, 6),
)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class PatchEmbedder(LayerOfLayers):
    """Embeds every patch with the first five blocks of EfficientNet-B0 (block 2).

    Stem and blocks 1a, 2a, 2b, 3a, 3b as in `keras.applications.EfficientNetB0`, with
    its layer names and weight shapes, then the mean over the map and a linear layer.
    79,138 parameters with 256 features. `keras_patchpu.models.load_efficientnet_weights`
    copies weights into it. There is no drop-connect.

    Where XLA compiles for a CPU, the same numbers are computed in another layout, with
    gradients written out (`layers.cpu`); weights and files are the same.

    Args:
        features: Size of a patch embedding, F. Defaults to `256`.
        batch_norm: Whether batch norms follow the convolutions. Without, the convolutions
            have biases instead: the embedder of a model whose batch norms are folded into
            them for prediction, see `PatchClassifier.fused`. Defaults to `True`.
        batch_norm_momentum: Momentum of the running mean and variance of the batch
            norms. Defaults to `0.99`.
        pixel_mean: Three numbers subtracted from the channels after the division by 255.
            Defaults to zeros, as in `EfficientNetB0(weights=None)`.
        pixel_variance: Three positive numbers; their square roots divide the channels
            after that. Defaults to ones.
        kernel_initializer: Initialiser of every kernel. Defaults to `None`:
            `VarianceScaling(1.0)`.

    Call arguments:
        patches: `(B, P, h, w, 3)` with values from 0 to 255. B and P may be unknown.
        training: Whether batch norm uses the statistics of the batch.

    Returns:
        Patch embeddings `(B, P, F)` in the compute dtype.

    Raises:
        ValueError: An argument is out of range, or the patches are not five-dimensional
            with three channels and a known size.

    Reference:
        Jouanneau et al., section 3.1, "Patch representation", and section 4.1;
        Tan and Le, "EfficientNet", ICML 2019.
    """

    def __init__(
        self,
        features: int = 256,
        batch_norm: bool = True,
        batch_norm_momentum: float = 0.99,
        pixel_mean: Sequence[float] = (0.0, 0.0, 0.0),
        pixel_variance: Sequence[float] = (1.0, 1.0, 1.0),
        kernel_initializer: keras.Initializer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integer("features", features)
        check_one_of("batch_norm", batch_norm, (True, False))
        check_number("batch_norm_momentum", batch_norm_momentum, minimum=0, below=1)
        check_numbers("pixel_mean", pixel_mean, 3)
        check_numbers("pixel_variance", pixel_variance, 3, above=0)
        self.features = features
        self.batch_norm = batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.pixel_mean = tuple(float(value) for value in pixel_mean)
        self.pixel_variance = tuple(float(value) for value in pixel_variance)
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(1.0)
        )

    def build(self, input_shape):
        if len(input_shape) != 5 or input_shape[-1] != 3 or None in input_shape[2:4]:
            raise ValueError(
                "PatchEmbedder expects patches (batch, patches, height, width, 3) of a known "
                f"height and width. Received: shape {tuple(input_shape)}"
            )
        shape = (None, *input_shape[2:])
        self.stem_conv = Conv(
            32,
            3,
            strides=2,
            padding="same",
            use_bias=not self.batch_norm,
            data_format="channels_last",
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="stem_conv",
        )
        shape = self._build(self.stem_conv, shape)
        self.stem_bn = None
        if self.batch_norm:
            self.stem_bn = BatchNorm(
                momentum=self.batch_norm_momentum, dtype=self.dtype_policy, name="stem_bn"
            )
            self.stem_bn.build(shape)
        self.blocks = []
        for name, filters, kernel_size, strides, expansion in BLOCKS:
            block = MobileInvertedBottleneck(
                filters,
                kernel_size=kernel_size,
                strides=strides,
                expansion=expansion,
                batch_norm=self.batch_norm,
                batch_norm_momentum=self.batch_norm_momentum,
                kernel_initializer=self.kernel_initializer.clone(),
                dtype=self.dtype_policy,
                name=name,
            )
            shape = self._build(block, shape)
            self.blocks.append(block)
        self.projection = keras.layers.Dense(
            self.features,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build((None, shape[-1]))

    def _build(self, layer, shape):
        layer.build(shape)
        return layer.compute_output_shape(shape)

    def block_outputs(self, patches: Any, training: bool = False) -> dict[str, Any]:
        """Feature maps after each block, for looking inside and for tests.

        Args:
            patches: `(N, h, w, 3)`, values from 0 to 255.
            training: As in `call`.

        Returns:
            Dict from `"block1a"` ... `"block3b"` to maps `(N, h', w', channels)`.
        """
        x = self.scaled(patches)
        x = ops.silu(normalized(self.stem_conv(x), self.stem_bn, training))
        outputs = {}
        for block in self.blocks:
            x = outputs[block.name] = block(x, training=training)
        return outputs

    def scaled(self, patches: Any) -> Any:
        """Patches `(N, h, w, 3)` as the first convolution takes them, in the compute dtype."""
        mean = ops.convert_to_tensor(self.pixel_mean, dtype=self.compute_dtype)
        deviation = ops.sqrt(ops.convert_to_tensor(self.pixel_variance, dtype=self.compute_dtype))
        return (ops.cast(patches, self.compute_dtype) / 255.0 - mean) / deviation

    def call(self, patches, training=False):
        num_patches = patches.shape[1] or ops.shape(patches)[1]
        patches = ops.reshape(patches, (-1, *patches.shape[2:]))
        patches = ops.cast(patches, self.compute_dtype)
        if cpu.applies(self, patches, training):
            embeddings = cpu.embed(self, patches, training)
        else:
            maps = self.block_outputs(patches, training)[BLOCKS[-1][0]]
            embeddings = self.projection(ops.mean(maps, axis=(1, 2)))
        return ops.reshape(embeddings, (-1, num_patches, self.features))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1], self.features)

    def get_config(self):
        return {
            **super().get_config(),
            "features": self.features,
            "batch_norm": self.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "pixel_mean": self.pixel_mean,
            "pixel_variance": self.pixel_variance,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

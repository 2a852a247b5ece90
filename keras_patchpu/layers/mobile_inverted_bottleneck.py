"""One MBConv block of EfficientNet."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.layers.cpu.batch_norm import BatchNorm
from keras_patchpu.layers.cpu.conv import Conv
from keras_patchpu.layers.cpu.depthwise_conv import DepthwiseConv
from keras_patchpu.layers.inner_state import LayerOfLayers
from keras_patchpu.utils.validation import check_number, check_one_of, check_positive_integer


def normalized(x, batch_norm, training):
    """`batch_norm` of x, or x itself without one."""
    return x if batch_norm is None else batch_norm(x, training=training)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class MobileInvertedBottleneck(LayerOfLayers):
    """MBConv: expand, depthwise convolution, squeeze and excitation, project.

    Layer by layer the block of `keras.applications.EfficientNetB0`, whose layer names
    without the block's prefix its sublayers have: `expand_conv`, `expand_bn`, `dwconv`,
    `bn`, `se_reduce`, `se_expand`, `project_conv`, `project_bn`. Where strides are 1
    and the channels do not change, the input is added to the output.

    Args:
        filters: Channels of the output.
        kernel_size: Side of the depthwise kernel. Defaults to `3`.
        strides: Strides of the depthwise convolution. Defaults to `1`.
        expansion: Factor by which the first 1x1 convolution widens the channels; with 1
            there is none. Defaults to `6`.
        squeeze_ratio: Neurons of the squeeze, as a share of the input's channels.
            Defaults to `0.25`.
        batch_norm: Whether batch norms follow the convolutions. Without, the convolutions
            have biases instead: the block of a model whose batch norms are folded into
            them for prediction, see `PatchClassifier.fused`. Defaults to `True`.
        batch_norm_momentum: Momentum of the batch norms. Defaults to `0.99`.
        kernel_initializer: Initialiser of every kernel. Defaults to `None`:
            `VarianceScaling(1.0)`.

    Call arguments:
        inputs: `(N, h, w, channels)`.
        training: Whether batch norm uses the statistics of the batch.

    Returns:
        `(N, ceil(h / strides), ceil(w / strides), filters)`.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Tan and Le, "EfficientNet", ICML 2019.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        expansion: int = 6,
        squeeze_ratio: float = 0.25,
        batch_norm: bool = True,
        batch_norm_momentum: float = 0.99,
        kernel_initializer: keras.Initializer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integer("filters", filters)
        check_positive_integer("kernel_size", kernel_size)
        check_positive_integer("strides", strides)
        check_positive_integer("expansion", expansion)
        check_number("squeeze_ratio", squeeze_ratio, above=0, maximum=1)
        check_one_of("batch_norm", batch_norm, (True, False))
        check_number("batch_norm_momentum", batch_norm_momentum, minimum=0, below=1)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.expansion = expansion
        self.squeeze_ratio = squeeze_ratio
        self.batch_norm = batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(1.0)
        )

    def build(self, input_shape):
        channels = input_shape[-1]
        wide = channels * self.expansion
        height, width = (None if s is None else -(-s // self.strides) for s in input_shape[1:3])
        self.has_shortcut = self.strides == 1 and channels == self.filters
        if self.expansion > 1:
            self.expand_conv = self._pointwise("expand_conv", wide, input_shape)
            self.expand_bn = self._batch_norm("expand_bn", wide)
        self.dwconv = DepthwiseConv(
            self.kernel_size,
            strides=self.strides,
            use_bias=not self.batch_norm,
            depthwise_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name="dwconv",
        )
        self.dwconv.build((None, *input_shape[1:3], wide))
        self.bn = self._batch_norm("bn", wide)
        squeezed = max(1, int(channels * self.squeeze_ratio))
        self.se_reduce = self._pointwise("se_reduce", squeezed, (None, 1, 1, wide), "swish")
        self.se_expand = self._pointwise("se_expand", wide, (None, 1, 1, squeezed), "sigmoid")
        self.project_conv = self._pointwise(
            "project_conv", self.filters, (None, height, width, wide)
        )
        self.project_bn = self._batch_norm("project_bn", self.filters)

    def _pointwise(self, name, filters, input_shape, activation=None):
        layer = Conv(
            filters,
            1,
            activation=activation,
            use_bias=activation is not None or not self.batch_norm,
            data_format="channels_last",
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(input_shape)
        return layer

    def _batch_norm(self, name, channels):
        if not self.batch_norm:
            return None
        layer = BatchNorm(momentum=self.batch_norm_momentum, dtype=self.dtype_policy, name=name)
        layer.build((None, None, None, channels))
        return layer

    def call(self, inputs, training=False):
        x = inputs
        if self.expansion > 1:
            x = ops.silu(normalized(self.expand_conv(x), self.expand_bn, training))
        x = ops.silu(normalized(self.dwconv(x), self.bn, training))
        squeezed = ops.mean(x, axis=(1, 2), keepdims=True)
        x = ops.multiply(x, self.se_expand(self.se_reduce(squeezed)))
        x = normalized(self.project_conv(x), self.project_bn, training)
        return ops.add(x, inputs) if self.has_shortcut else x

    def compute_output_shape(self, input_shape):
        height, width = (None if s is None else -(-s // self.strides) for s in input_shape[1:3])
        return (input_shape[0], height, width, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "expansion": self.expansion,
            "squeeze_ratio": self.squeeze_ratio,
            "batch_norm": self.batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

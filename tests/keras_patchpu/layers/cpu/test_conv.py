"""`Conv` and `DepthwiseConv` against Keras's own layers."""

import keras
import numpy as np
import pytest
from backend import weight_gradients
from keras import ops

from keras_patchpu.layers.cpu.conv import Conv
from keras_patchpu.layers.cpu.depthwise_conv import DepthwiseConv


def maps(side=9, channels=4):
    return np.random.default_rng(0).normal(size=(2, side, side - 1, channels)).astype("float32")


@pytest.mark.parametrize(
    "ours, stock, sizes",
    [
        (Conv, keras.layers.Conv2D, (6, 3)),
        (Conv, keras.layers.Conv2D, (6, 1)),
        (Conv, keras.layers.Conv2D, (6, 4)),
        (DepthwiseConv, keras.layers.DepthwiseConv2D, (3,)),
        (DepthwiseConv, keras.layers.DepthwiseConv2D, (5,)),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": "same"},
        {"padding": "same", "strides": 2},
        {"padding": "valid", "strides": 2, "use_bias": False},
        {"padding": "same", "activation": "swish", "dilation_rate": 2},
        {"padding": "valid", "activation": "swish", "bias_initializer": "ones"},
    ],
)
def test_the_numbers_of_keras(ours, stock, sizes, arguments):
    own, other = ours(*sizes, **arguments), stock(*sizes, **arguments)
    for layer in (own, other):
        layer.build((None, 9, 8, 4))
    other.set_weights(own.get_weights())
    found, expected = (ops.convert_to_numpy(layer(maps())) for layer in (own, other))
    assert found.shape == expected.shape == own.compute_output_shape(maps().shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    gradients = [
        weight_gradients(layer, lambda layer=layer: ops.sum(ops.square(layer(maps()))))
        for layer in (own, other)
    ]
    for one, two in zip(*gradients):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_it_is_in_half_precision_where_the_policy_says_so():
    layer = Conv(6, 3, padding="same", dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(layer(maps()).dtype) == "bfloat16"

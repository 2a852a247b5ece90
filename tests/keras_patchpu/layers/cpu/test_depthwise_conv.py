import keras
import numpy as np
import pytest
from backend import gradient, numpy
from keras import ops

from keras_patchpu.layers.cpu.depthwise_conv import DepthwiseConv


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 4), (4, 4), (8, 8)])
def test_equals_a_loop_over_pixels(size, kernel_size, strides):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, *size, 3)).astype("float32")
    layer = DepthwiseConv(kernel_size, strides=strides, use_bias=False)
    result = numpy(layer(x))
    kernel = numpy(layer.kernel)[..., 0]
    out = [-(-side // strides) for side in size]
    before = [max((o - 1) * strides + kernel_size - s, 0) // 2 for o, s in zip(out, size)]
    expected = np.zeros((2, *out, 3))
    for row, column, a, b in np.ndindex(*out, kernel_size, kernel_size):
        y, x_ = row * strides + a - before[0], column * strides + b - before[1]
        if 0 <= y < size[0] and 0 <= x_ < size[1]:
            expected[:, row, column] += x[:, y, x_] * kernel[a, b]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_gradient_equals_kerass():
    random = np.random.default_rng(1)
    x = random.normal(size=(2, 4, 4, 3)).astype("float32")
    direction = random.normal(size=(2, 2, 2, 3)).astype("float32")
    ours = DepthwiseConv(5, strides=2, use_bias=False)
    other = keras.layers.DepthwiseConv2D(5, strides=2, padding="same", use_bias=False)
    for layer in (ours, other):
        layer.build(x.shape)
    other.set_weights(ours.get_weights())
    slopes = [
        gradient(lambda v, layer=layer: ops.sum(ops.multiply(layer(v), direction)), x)
        for layer in (ours, other)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": "relu"},
        {"activation": "swish", "strides": 2, "use_bias": False},
        {"padding": "valid"},
        {"padding": "valid", "activation": "relu", "strides": (2, 2)},
        {"padding": "same", "depth_multiplier": 2},
        {"padding": "same", "dilation_rate": 2},
        {"bias_initializer": "ones", "depthwise_initializer": "ones"},
    ],
)
@pytest.mark.parametrize("size", [(4, 4), (3, 4), (6, 5)])
def test_every_argument_means_what_it_means_to_keras(size, arguments):
    random = np.random.default_rng(2)
    x = random.normal(size=(2, *size, 3)).astype("float32")
    ours = DepthwiseConv(3, **arguments)
    other = keras.layers.DepthwiseConv2D(3, **{"padding": "same", **arguments})
    for layer in (ours, other):
        layer.build(x.shape)
    if "bias_initializer" not in arguments:
        ours.set_weights([random.normal(size=w.shape) for w in ours.weights])
        other.set_weights(ours.get_weights())
    expected = numpy(other(x))
    assert ours.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(numpy(ours(x)), expected, rtol=1e-4, atol=1e-5)


def test_an_activation_and_a_valid_padding_by_hand():
    x = np.array([[1.0, -2.0], [-3.0, 4.0]], "float32").reshape(1, 2, 2, 1)
    layer = DepthwiseConv(1, activation="relu", depthwise_initializer="ones")
    np.testing.assert_array_equal(numpy(layer(x))[0, ..., 0], [[1, 0], [0, 4]])
    valid = DepthwiseConv(2, padding="valid", depthwise_initializer="ones")
    np.testing.assert_array_equal(numpy(valid(x)), np.zeros((1, 1, 1, 1)))

"""Pixels as networks want them that were first trained with Caffe."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_patchpu")
class CaffePixels(keras.layers.Layer):
    """Pixels from 0 to 255 as blue, green and red less their means over ImageNet.

    As `keras.applications.resnet.preprocess_input`.
    """

    def call(self, images):
        # (PyTorch cannot take steps backwards.)
        images = ops.flip(ops.cast(images, "float32"), axis=-1)
        return ops.cast(images - ops.array([103.939, 116.779, 123.68]), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

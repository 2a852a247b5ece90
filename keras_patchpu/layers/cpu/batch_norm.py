"""Batch normalisation with the fused kernels of TensorFlow and PyTorch."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_patchpu")
class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, faster in training.

    Same arguments, weights and results. On the TensorFlow and PyTorch backends training
    uses their fused kernels, one pass where Keras's composition takes several
    (benchmarks/README.md); on PyTorch inference does so, too. All else is Keras's own: JAX,
    inference on TensorFlow, other inputs than maps with the channels last, masks, and
    `center=False`, `scale=False`, `renorm` and `synchronized`, which the kernels do not know.

    Args:
        **kwargs: As of `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: `(N, h, w, C)`, or what Keras's layer takes.
        training: Whether to use, and learn, the statistics of the batch.

    Returns:
        Tensor of the shape and dtype of `inputs`.
    """

    def call(self, inputs, training=None, mask=None):
        kernel = {"tensorflow": _tensorflow_kernel, "torch": _torch_kernel}.get(
            keras.backend.backend()
        )
        fused = (
            kernel is not None
            and mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.compute_dtype != "float64"  # TensorFlow's kernel has none
            and self.center
            and self.scale
            and not self.renorm
            and not self.synchronized
        )
        learns = training and self.trainable
        if not fused or not learns and keras.backend.backend() == "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        inputs = ops.cast(inputs, self.compute_dtype)
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        if not learns:
            moving = self.moving_mean, self.moving_variance
            return _torch_inference(inputs, gamma, beta, *moving, self.epsilon)
        outputs, mean, variance = kernel(inputs, gamma, beta, self.epsilon)
        for moving, value in [(self.moving_mean, mean), (self.moving_variance, variance)]:
            value = ops.cast(value, moving.dtype)
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs


def _tensorflow_kernel(inputs, gamma, beta, epsilon):
    """Outputs `(N, h, w, C)`, and mean and biased variance `(C,)`, of inputs `(N, h, w, C)`."""
    import tensorflow as tf

    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=gamma,
        offset=beta,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
    )
    # The kernel reports the unbiased variance, Keras keeps the biased one.
    count = ops.cast(ops.size(inputs) // inputs.shape[-1], "float32")
    return outputs, mean, variance * ((count - 1.0) / count)


def _torch_kernel(inputs, gamma, beta, epsilon):
    """Outputs `(N, h, w, C)`, and mean and biased variance `(C,)`, of inputs `(N, h, w, C)`."""
    import torch

    # Channels second in shape, last in memory: the layout of PyTorch's fastest kernel.
    maps = inputs.permute(0, 3, 1, 2)
    outputs, mean, inverse = torch.native_batch_norm(
        maps, gamma, beta, None, None, True, 0.0, epsilon
    )
    variance = inverse.detach().float() ** -2 - epsilon
    return outputs.permute(0, 2, 3, 1), mean.detach(), variance


def _torch_inference(inputs, gamma, beta, mean, variance, epsilon):
    """Outputs `(N, h, w, C)` of inputs `(N, h, w, C)` by moving statistics `(C,)`."""
    from torch.nn import functional

    statistics = (ops.cast(values, "float32") for values in (mean, variance))
    maps = functional.batch_norm(
        inputs.permute(0, 3, 1, 2), *statistics, gamma, beta, False, 0.0, epsilon
    )
    return maps.permute(0, 2, 3, 1)

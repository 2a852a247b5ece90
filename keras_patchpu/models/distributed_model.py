"""A model that trains and predicts where Keras distributes over devices."""

from typing import Any

import keras
import numpy as np

from keras_patchpu.utils import distribution


class DistributedModel(keras.Model):
    """A Keras model; with `keras.distribution` set, of batches that need not divide.

    Without, it is `keras.Model`.
    """

    def train_step(self, *state_and_data):
        *state, data = state_and_data  # the state on JAX only
        return super().train_step(*state, distribution.without_filling(data))

    def predict_step(self, *state_and_data):
        result = super().predict_step(*state_and_data)
        if not distribution.num_devices():
            return result
        outputs, state = result
        return distribution.on_all_devices(outputs), state

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        if distribution.num_devices() and isinstance(x, np.ndarray):
            x, batch_size = distribution.ArrayBatches(x, batch_size or 32), None
        if not (distribution.num_devices() and hasattr(x, "share")):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        # Keras's own refuses batches that do not divide over the devices.
        shares = distribution.Shares(x)
        outputs = super().predict(shares, None, verbose, steps, callbacks)
        return keras.tree.map_structure(lambda values: values[shares.is_image()], outputs)

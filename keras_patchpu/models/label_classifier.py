"""What the classifiers share: training by losses that want more than probabilities."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.models.labelled_model import LabelledModel
from keras_patchpu.models.loss_inputs import EpochCounter, counting_epochs, needed
from keras_patchpu.utils import distribution
from keras_patchpu.utils.array_checks import check_images, check_label_shape, check_labels


@keras.saving.register_keras_serializable(package="keras_patchpu")
class LabelClassifier(LabelledModel):
    """A functional model from images to probabilities `(B, L)` of labels.

    Any functional model becomes one by the tensors that a loss may want, by name:

    ```python
    outputs = {"probabilities": p, "logits": z, "image_embeddings": e}
    model = LabelClassifier(images, outputs)
    ```

    These are its intermediates. What the model returns are the probabilities. `fit`, `evaluate`,
    `predict` and `save` are Keras's own. A subclass that makes its layers itself gives the
    probabilities alone as `outputs` and defines `intermediates`.

    A loss that needs more than probabilities says so in an attribute `needs`, a tuple of
    names (see `MultiLabelLoss`), and gets a dict of them as `y_pred`. They are looked up

    1. among the model's intermediates: `"logits"`, `"image_embeddings"`, ...;
    2. `"epoch"`: number of epochs done, a float32 scalar (0 outside `fit`);
    3. in what the data give: then `y` is a dict of `"labels"` and further arrays by name, such as
       `"image_index"`.

    A loss that has a layer `estimator` with weights of its own trains them with the model;
    they are saved with it.

    **What is checked.** NumPy arrays that `fit` (its `validation_data` too), `evaluate`,
    `predict` or `explain` is given, once and before a weight changes: images have the model's
    size, three channels and finite values from 0 to 255 (uint8 costs nothing), labels are not
    NaN. Labels of another shape than `(B, num_labels)` are refused in any case. Values of
    tensors, `tf.data`, generators and the `*_on_batch` methods are not looked at: there
    `keras.callbacks.TerminateOnNaN()` ends training at the first loss that is not finite.
    (`ImageBatches` checks its array, and `FileBatches` reads uint8.)

    Args:
        inputs: `keras.Input` of images `(B, H, W, 3)`, values from 0 to 255.
        outputs: Dict of symbolic tensors by name, `"probabilities"` `(B, L)` among them, or
            the probabilities alone.
        name: Of the model. Defaults to `None`: one that Keras makes.
        label_names: L strings, kept with the model. Defaults to `None`.
        thresholds: L numbers from 0 to 1, kept with the model. Defaults to `None`.

    Attributes:
        label_names: L strings, or `None`. Set it to name the labels of the model.
        thresholds: L numbers from 0 to 1, or `None`. Set it to change from where labels are
            predicted.
        num_parameters: Numbers in the network's weights, without what a loss trains beside it.

    Raises:
        ValueError: The inputs are no images, or the outputs hold no probabilities `(B, L)`.
    """

    _named_outputs = None
    predict_function: Any

    # (Keras takes a subclass for a functional model if it has these three and keywords.)
    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        label_names: Sequence[str] | None = None,
        thresholds: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        shape: Any = getattr(_by_name(outputs).get("probabilities"), "shape", ())
        if len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "Expected `outputs` to be probabilities (B, L), or a dict that holds them as "
                f"'probabilities'. Received: {outputs}"
            )
        if len(self.inputs) != 1 or len(self.inputs[0].shape) != 4:
            raise ValueError(f"Expected `inputs` to be images (B, H, W, 3). Received: {inputs}")
        self.num_labels = shape[1]
        height, width = self.inputs[0].shape[1:3]
        self.image_size = (height, width)
        self.label_names = label_names
        self.thresholds = thresholds

    def intermediates(
        self, images: Any, training: bool | None = None, names: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """What lies between an image and its probabilities, as tensors, by name.

        Args:
            images: `(B, H, W, 3)`, values from 0 to 255.
            training: As in `call`.
            names: Names of those wanted; others are left out. Defaults to `None`: all.

        Returns:
            Dict of the outputs that the model was made with.
        """
        outputs = _by_name(super().call(images, training=training))
        return {name: outputs[name] for name in outputs if names is None or name in names}

    def explain(self, images: Any, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Intermediates of a batch, as NumPy arrays, in inference.

        Args:
            images: `(B, H, W, 3)`, values from 0 to 255.
            names: Which of `intermediates`. Defaults to `None`: all.

        Returns:
            Dict as of `intermediates`, float32 arrays.

        Raises:
            ValueError: `images` is an array of another shape, or of values that are not finite
                or not from 0 to 255; the message has the index of the first such image.
        """
        self._check_arrays(images)
        images = ops.convert_to_tensor(images)
        outputs = self.intermediates(images, training=False, names=names)
        return {
            name: ops.convert_to_numpy(ops.cast(value, "float32"))
            for name, value in outputs.items()
        }

    def predict_outputs(
        self,
        images: Any,
        names: Iterable[str],
        batch_size: int | None = None,
        verbose: int | str = 0,
    ) -> dict[str, np.ndarray]:
        """As `predict`, but a dict of intermediates instead of probabilities alone.

        Args:
            images: Anything that `predict` takes.
            names: Names of intermediates.
            batch_size, verbose: As of `predict`.

        Returns:
            Dict of arrays of all images, of these names.
        """
        names = tuple(sorted(names))
        functions = self.__dict__.setdefault("_predict_functions", {})
        usual, self.predict_function = self.predict_function, functions.get(names)
        try:
            with self._returning(names):
                outputs = self.predict(images, batch_size=batch_size, verbose=verbose)
            functions[names] = self.predict_function
        finally:
            self.predict_function = usual
        return {name: np.asarray(outputs[name]) for name in names}

    # === Arrays are checked here, and nothing of it enters the graph ===

    def _check_arrays(self, images, labels=None):
        if isinstance(images, np.ndarray):
            size = self.inputs[0].shape[1:3]
            check_images(images, None if None in size else size)
        labels = labels.get("labels") if isinstance(labels, dict) else labels
        if isinstance(labels, np.ndarray):
            check_labels(labels)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        # (In `fit` Keras comes back with its validation data after every epoch.)
        if not kwargs.get("_use_cached_eval_dataset"):
            self._check_arrays(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, batch_size: int | None = None, **kwargs: Any) -> np.ndarray:
        self._check_arrays(x)
        if distribution.num_devices() and isinstance(x, np.ndarray):
            x, batch_size = distribution.ArrayBatches(x, batch_size or 32), None
        if not (distribution.num_devices() and hasattr(x, "share")):
            return super().predict(x, batch_size=batch_size, **kwargs)
        # Keras's own refuses batches that do not divide over the devices.
        shares = distribution.Shares(x)
        outputs = super().predict(shares, **kwargs)
        return keras.tree.map_structure(lambda values: values[shares.is_image()], outputs)

    # === Training: Keras's own steps, with what the loss needs as `y_pred` ===

    def call(self, inputs, training=None, mask=None):
        if self._named_outputs is None:
            outputs = super().call(inputs, training=training, mask=mask)
            return _by_name(outputs)["probabilities"]
        return self.intermediates(inputs, training=training, names=self._named_outputs)

    def compute_output_spec(self, inputs, training=None, mask=None):
        outputs = super().compute_output_spec(inputs, training=training, mask=mask)
        return _by_name(outputs)["probabilities"]

    @contextlib.contextmanager
    def _returning(self, names):
        """While a step is traced, `call` returns these intermediates."""
        self._named_outputs = names
        try:
            yield
        finally:
            self._named_outputs = None

    def _outputs_for_loss(self):
        names = getattr(self.loss, "needs", None) or None
        # Metrics want the probabilities, whatever the loss wants.
        return self._returning(None if names is None else {*names, "probabilities"})

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        for former in (getattr(self, "loss_estimator", None), getattr(self, "epoch_counter", None)):
            # Keras forgets replaced variables, but not replaced layers.
            self._tracker.untrack(former)
        self.loss_estimator = getattr(self.loss, "estimator", None)
        wants_epoch = "epoch" in getattr(self.loss, "needs", ())
        self.epoch_counter = EpochCounter(name="epoch_counter") if wants_epoch else None

    def compile_from_config(self, config):
        # Keras's own does not trust a model that has a `compile` of its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, callbacks=None, validation_data=None, **kwargs):
        self._check_arrays(x, y)
        if isinstance(validation_data, (tuple, list)):
            try:
                self._check_arrays(*validation_data[:2])
            except ValueError as error:
                raise ValueError(f"`validation_data`: {error}") from error
        if self.epoch_counter is not None:
            callbacks = counting_epochs(callbacks, self.epoch_counter)
        # TensorFlow traces a step twice if the first time creates variables.
        if self.built and self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().fit(
            x, y, *args, callbacks=callbacks, validation_data=validation_data, **kwargs
        )

    def train_step(self, *state_and_data):
        *state, data = state_and_data  # the state on JAX only
        with self._outputs_for_loss():
            return super().train_step(*state, distribution.without_filling(data))

    def predict_step(self, *state_and_data):
        result = super().predict_step(*state_and_data)
        if not distribution.num_devices():
            return result
        outputs, state = result
        return distribution.on_all_devices(outputs), state

    def test_step(self, *args, **kwargs):
        with self._outputs_for_loss():
            return super().test_step(*args, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        names = getattr(self.loss, "needs", None) or None
        labels = y["labels"] if isinstance(y, dict) else y
        check_label_shape(labels, self.num_labels)
        if names is None:
            return super().compute_loss(x, labels, y_pred, sample_weight, training=training)
        if not isinstance(y_pred, dict):  # called with the output of `model(x)`
            y_pred = self.intermediates(x, training=training, names=names)
        if self.epoch_counter is not None:
            y_pred = {**y_pred, "epoch": ops.convert_to_tensor(self.epoch_counter.epoch)}
        loss = self.loss(labels, needed(self.loss, y_pred, y, self), sample_weight)
        for additional in self.losses:
            loss = loss + ops.sum(ops.cast(additional, loss.dtype))
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, dict):
            y_pred = y_pred["probabilities"]
        y = y["labels"] if isinstance(y, dict) else y
        return super().compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def get_config(self):
        config = super().get_config()
        if "layers" in config:  # not a subclass with a constructor of its own
            config.update({"label_names": self.label_names, "thresholds": self.thresholds})
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if "layers" in config:
            return super().from_config(config, custom_objects)
        return cls(**config)


def _by_name(outputs):
    return outputs if isinstance(outputs, dict) else {"probabilities": outputs}

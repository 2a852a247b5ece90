"""What the classifiers share: training by losses that want more than probabilities."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_patchpu.layers.inner_state import inner_state, restore_inner_state
from keras_patchpu.models.distributed_model import DistributedModel
from keras_patchpu.models.labelled_model import LabelledModel
from keras_patchpu.models.loss_needs import EpochCounter, counting_epochs, needed
from keras_patchpu.utils.array_checks import check_label_shape, check_labels
from keras_patchpu.utils.keras_internals import forget_layer, is_validation_within_fit


# (Files of before the first release name it so.)
@keras.saving.register_keras_serializable(package="keras_patchpu", name="LabelClassifier")
class MultiLabelClassifier(LabelledModel):
    """A functional model whose outputs, by name, are probabilities `(B, L)` and what led to them.

    Any functional model becomes one, whatever its inputs are: images, feature maps, vectors.

    ```python
    outputs = {"probabilities": p, "logits": z, "image_embeddings": e}
    model = MultiLabelClassifier(inputs, outputs)
    ```

    `model(x)` is the dict of all outputs, as with any functional model. `predict` gives the
    probabilities alone; `part` is a model of those outputs that one wants. What is not used is
    not computed where TensorFlow or JAX compile a step.

    A loss says in its attribute `needs` which tensors it wants beside the labels, see
    `losses.MultiLabelLoss`. They are looked up by name

    1. among the outputs of the model: `"logits"`, `"image_embeddings"`, ...;
    2. `"epoch"`: number of epochs done, a float32 scalar (0 outside `fit`);
    3. in what the data give: then `y` is a dict of `"labels"` and further arrays by name, such as
       `"image_index"`.

    Any other loss, and Keras's metrics, get the probabilities. Those of Keras get the labels as
    Keras means them: 1 for a label that is present, 0 for one that is absent or unknown. A layer
    `estimator` of the loss is trained and saved with the model.

    **What is checked.** Labels in NumPy arrays are not NaN, and labels of another shape than
    `(B, num_labels)` are refused in any case. At a loss that is not finite
    `keras.callbacks.TerminateOnNaN()` ends training.

    Args:
        inputs: `keras.Input`, or a structure of them.
        outputs: Dict of symbolic tensors by name, `"probabilities"` `(B, L)` among them, or
            the probabilities alone.
        name: Of the model. Defaults to `None`: one that Keras makes.
        label_names: L strings, kept with the model. Defaults to `None`.
        thresholds: L numbers from 0 to 1, kept with the model. Defaults to `None`.
        inner_state: In a saved configuration: inner layers that were frozen, quantized, given
            LoRA or another dtype policy. Defaults to `None`.

    Attributes:
        label_names: L strings, or `None`. Set it to name the labels of the model.
        thresholds: L numbers from 0 to 1, or `None`. Set it to change from where labels are
            predicted.
        num_parameters: Numbers in the network's weights, without what a loss trains beside it.

    Raises:
        ValueError: The outputs hold no probabilities `(B, L)`.
    """

    _has_metrics = False
    _loss_weight = 1.0

    # (To save its layers Keras has to take a subclass for a functional model: it does so if the
    # constructor has these three arguments and keywords.)
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
        outputs = outputs if isinstance(outputs, dict) else {"probabilities": outputs}
        changed = kwargs.pop("inner_state", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        if changed:
            restore_inner_state(self, changed)
        shape: Any = getattr(outputs.get("probabilities"), "shape", ())
        if len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "Expected `outputs` to be probabilities (B, L), or a dict that holds them as "
                f"'probabilities'. Received: {outputs}"
            )
        # (On PyTorch attributes of the class would hide layers of the same name.)
        self.loss_estimator: Any = None
        self.epoch_counter: EpochCounter | None = None
        self.num_labels = shape[1]
        self.label_names = label_names
        self.thresholds = thresholds

    # === Looking inside ===

    def part(self, *names: str) -> DistributedModel:
        """A model of some of the outputs, with the same layers and weights.

        Args:
            *names: Names of outputs.

        Returns:
            `keras.Model` from the inputs to a dict of these outputs. Keep it when you predict
            often: it compiles its own prediction.

        Raises:
            ValueError: There is no such output.
        """
        missing = [name for name in names if name not in self.output]
        if missing or not names:
            raise ValueError(
                f"Expected names of outputs of {type(self).__name__}: {', '.join(self.output)}. "
                f"Received: {', '.join(missing) or 'none'}"
            )
        part = DistributedModel(self.input, {name: self.output[name] for name in names})
        part.jit_compile, part.run_eagerly = self.jit_compile, self.run_eagerly
        return part

    def explain(self, inputs: Any, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Outputs for a batch, as NumPy arrays, in inference.

        Args:
            inputs: A batch of inputs.
            names: Names of outputs. Defaults to `None`: all.

        Returns:
            Dict of float32 arrays.

        Raises:
            ValueError: There is no such output, or what `check_inputs` says.
        """
        self.check_inputs(inputs)
        part = self if names is None else self.part(*names)
        outputs = part(keras.tree.map_structure(ops.convert_to_tensor, inputs), training=False)
        return {
            name: ops.convert_to_numpy(ops.cast(value, "float32"))
            for name, value in outputs.items()
        }

    # === Arrays are checked here, and nothing of it enters the graph ===

    def check_inputs(self, inputs: Any) -> None:
        """Raises a ValueError if arrays given to `fit`, `predict`, ... cannot be meant.

        Here anything will do; models of images look at sizes and pixels.
        """

    def _check(self, inputs, y=None):
        self.check_inputs(inputs)
        labels = y.get("labels") if isinstance(y, dict) else y
        if not isinstance(labels, np.ndarray):
            return
        check_labels(labels)
        if self._has_metrics and (labels < 0).any() and (labels == 0).any():
            warnings.warn(
                f"{(labels == 0).sum():,} of {labels.size:,} labels are unknown (0): Keras's "
                "metrics count them as absent. keras_patchpu.metrics.observed_metrics does not",
                stacklevel=3,
            )

    def evaluate(self, x=None, y=None, *args, **kwargs):
        if not is_validation_within_fit(kwargs):  # looked at when `fit` began
            self._check(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        self._check(x)
        return super().predict(x, *args, **kwargs)

    # === Training: Keras's own steps, with what the loss needs as `y_pred` ===

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, **kwargs):
        loss = _single("loss", loss)
        weight = _single("loss_weights", loss_weights)
        weight = None if weight is None else float(weight)
        super().compile(optimizer, loss, weight, metrics, **kwargs)
        self._has_metrics = bool(metrics or kwargs.get("weighted_metrics"))
        self._loss_weight = 1.0 if weight is None else weight
        for former in (self.loss_estimator, self.epoch_counter):
            if former is not None:
                forget_layer(self, former)
        self.loss_estimator = getattr(loss, "estimator", None)
        wants_epoch = "epoch" in getattr(loss, "needs", ())
        self.epoch_counter = EpochCounter(name="epoch_counter") if wants_epoch else None

    def compile_from_config(self, config):
        # Keras's own does not trust a model that has a `compile` of its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, callbacks=None, validation_data=None, **kwargs):
        self._check(x, y)
        if isinstance(validation_data, (tuple, list)):
            try:
                self._check(*validation_data[:2])
            except ValueError as error:
                raise ValueError(f"`validation_data`: {error}") from error
        if self.epoch_counter is not None:
            callbacks = counting_epochs(callbacks, self.epoch_counter)
        # TensorFlow traces a step twice if the first time creates variables.
        if self.compiled and self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().fit(
            x, y, *args, callbacks=callbacks, validation_data=validation_data, **kwargs
        )

    def predict_step(self, *state_and_data):
        result = super().predict_step(*state_and_data)
        if keras.backend.backend() == "jax":
            outputs, state = result
            return outputs["probabilities"], state
        return result["probabilities"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        labels = y["labels"] if isinstance(y, dict) else y
        check_label_shape(labels, self.num_labels)
        if getattr(self.loss, "needs", ()):
            return self._loss_of_what_it_needs(labels, y, y_pred, sample_weight)
        labels = _presence(labels) if _is_of_keras(self.loss) else labels
        predicted = y_pred["probabilities"]
        return super().compute_loss(x, labels, predicted, sample_weight, training=training)

    def _loss_of_what_it_needs(self, labels, y, y_pred, sample_weight):
        """As Keras's `compute_loss`, which takes each tensor of a dict for an output to learn."""
        if self.epoch_counter is not None:
            y_pred = {**y_pred, "epoch": ops.convert_to_tensor(self.epoch_counter.epoch)}
        loss = self.loss(labels, needed(self.loss, y_pred, y, self), sample_weight)
        loss = loss * self._loss_weight
        for additional in self.losses:
            loss = loss + ops.sum(ops.cast(additional, loss.dtype))
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        labels = _presence(y["labels"] if isinstance(y, dict) else y)
        return super().compute_metrics(x, labels, y_pred["probabilities"], sample_weight)

    # === Saving ===

    def inner_state_config(self) -> dict[str, Any]:
        """What became of inner layers (frozen, quantized, ...), for a `get_config` of one's own."""
        names = {layer.name for layer in self.layers}  # without a layer of the loss
        state = {
            path: changes
            for path, changes in inner_state(self).items()
            if path.partition("/")[0] in names
        }
        return {"inner_state": state} if state else {}

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


def _presence(labels):
    """Labels as Keras means them: 1 for present, 0 for absent or unknown."""
    return ops.cast(ops.convert_to_tensor(labels) > 0, "float32")


def _is_of_keras(loss):
    """Whether a loss is one of Keras, by its name or by its class or function."""
    module = getattr(loss, "__module__", type(loss).__module__)
    return isinstance(loss, str) or module.partition(".")[0] == "keras"


def _single(argument, value):
    """What `compile` is given for the one output that is learnt, which may stand in a list."""
    if isinstance(value, dict) and set(value) == {"probabilities"}:
        return value["probabilities"]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return value[0]
    if isinstance(value, (dict, list, tuple)):
        raise ValueError(
            f"Expected `{argument}` for the probabilities alone: itself, a list of it, or a dict "
            f"with the key 'probabilities'. Received: {value}"
        )
    return value

"""What a loss of `LabelClassifier` gets beside labels and what the model computes."""

import keras


def needed(loss, computed, y, model):
    """The tensors that a loss names in its attribute `needs`, by name.

    Args:
        loss: The loss.
        computed: Dict of what the model computes.
        y: What the data give: labels, or a dict of these and further arrays.
        model: The model, for what it is called.

    Raises:
        ValueError: One is missing.
    """
    given = {**(y if isinstance(y, dict) else {}), **computed}
    missing = [name for name in loss.needs if name not in given]
    if missing:
        raise ValueError(
            f"{type(loss).__name__} needs {missing}, which {type(model).__name__} does not "
            "compute: expected `y` to be a dict of 'labels' and these. Received: "
            f"{sorted(y) if isinstance(y, dict) else 'an array of labels'}"
        )
    return {name: given[name] for name in loss.needs}


class EpochCounter(keras.layers.Layer):
    """Holds the number of epochs done, for losses that change with it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.epoch = self.add_weight(
            shape=(), initializer="zeros", dtype="float32", trainable=False, name="epoch"
        )
        self.built = True


class _CountEpochs(keras.callbacks.Callback):
    def __init__(self, counter):
        super().__init__()
        self.counter = counter

    def on_epoch_begin(self, epoch, logs=None):
        self.counter.epoch.assign(float(epoch))


def counting_epochs(callbacks, counter):
    """The callbacks given to `fit`, with one that tells an `EpochCounter` of each epoch."""
    counting = _CountEpochs(counter)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(counting)
        return callbacks
    given = callbacks or []
    return [counting, *(given if isinstance(given, (list, tuple)) else [given])]

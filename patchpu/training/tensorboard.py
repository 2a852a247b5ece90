"""Values of each epoch for TensorBoard."""

import importlib.util

import keras


def check_tensorboard():
    """Raises a ValueError unless TensorBoard is installed, without which nothing is written."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(
            "--tensorboard needs the package tensorboard, which TensorFlow no longer brings: "
            'pip install "keras_patchpu[tensorboard]"'
        )


def tensorboard(folder):
    """A callback that writes each epoch's values into a folder, on any backend.

    Points are counted by epoch, so that those of a run that goes on follow those before. An
    epoch that was not saved is done again and has two points.
    """
    # The graph of the step would be megabytes, and as Keras says is not supported.
    return _FlushedTensorBoard(str(folder), write_graph=False)


class _FlushedTensorBoard(keras.callbacks.TensorBoard):
    """After each epoch its values are on the disk, as the epoch's weights will be."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        # Keras closes its writers when training ends, which a killed run does not come to.
        for writer in getattr(self, "_writers", {}).values():
            writer.flush()

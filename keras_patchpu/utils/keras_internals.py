"""What this package uses of Keras that Keras does not promise to keep: all of it is here."""

import traceback

import keras


def layers_inside(layer):
    """The layers that are attributes of a layer or model, without those inside these."""
    return layer._flatten_layers(recursive=False, include_self=False)


def forget_layer(model, layer):
    """Takes a layer that was an attribute out of those whose weights the model saves and trains.

    Keras forgets variables that are replaced, but not layers.
    """
    model._tracker.untrack(layer)


def is_validation_within_fit(arguments):
    """Whether `evaluate` was called by `fit`, after an epoch, with these keyword arguments."""
    return bool(arguments.get("_use_cached_eval_dataset"))


def download_target(error):
    """Path of the file that `keras.utils.get_file` could not download, or `None`.

    Args:
        error: The exception. What it says depends on what went wrong; where Keras puts the file
            it does not say.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is keras.utils.get_file.__code__:
            return frame.f_locals.get("download_target")
    return None

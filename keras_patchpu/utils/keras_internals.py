"""What this package uses of Keras that Keras does not promise to keep: all of it is here."""


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

"""Trains without XLA what is trained for a few steps only: compiling would take most of the time.

That XLA computes the same is tested with the models and the layers.
"""

import types

from keras_patchpu.models import patch_classifier

XLA = patch_classifier.xla


def leave_xla_off(replace=setattr):
    """Lets a `PatchClassifier` never choose XLA by itself, as on a machine with a GPU.

    Args:
        replace: As `setattr`, or pytest's `monkeypatch.setattr`, which undoes it.
    """
    replace(patch_classifier, "xla", types.SimpleNamespace(is_for_tensorflow=lambda: False))

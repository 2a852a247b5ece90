"""ResNets of few blocks, for tests that are not about their depth."""

import sys

import keras

_MODULE = sys.modules[keras.applications.ResNet50.__module__]
_STACK = _MODULE.stack_residual_blocks_v1


def _shallow_stack(x, filters, blocks, **kwargs):
    return _STACK(x, filters, 2 if kwargs["name"] == "conv2" else 1, **kwargs)


def shallow_resnets(replace=setattr):
    """Of the 3, 4, 6 and 3 blocks of ResNet-50 there are 2, 1, 1 and 1: a third of the layers.

    Args:
        replace: As `setattr`, or pytest's `monkeypatch.setattr`, which undoes it.
    """
    replace(_MODULE, "stack_residual_blocks_v1", _shallow_stack)


def whole_resnets(replace=setattr):
    """Undoes `shallow_resnets`."""
    replace(_MODULE, "stack_residual_blocks_v1", _STACK)

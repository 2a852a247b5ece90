"""Trains without XLA what is trained for a few steps only: compiling would take most of the time.

That XLA computes the same is tested with the models.
"""

import functools

import keras

from keras_patchpu import PatchClassifier


def compile_without_xla(replace=setattr):
    """Lets `compile` take `jit_compile="auto"` as no, on TensorFlow; JAX cannot do without.

    Args:
        replace: As `setattr`, or pytest's `monkeypatch.setattr`, which undoes it.
    """
    if keras.backend.backend() == "tensorflow":
        # Keras looks whether a model has a `compile` of its own: replaced is the inherited one.
        (inherited,) = [each for each in keras.Model.__mro__ if "compile" in vars(each)]
        for each in (inherited, PatchClassifier):
            replace(each, "compile", _without_xla(each.compile))


def _without_xla(compile_model):
    @functools.wraps(compile_model)
    def compile_it(self, *args, jit_compile="auto", **kwargs):
        chosen = False if jit_compile == "auto" else jit_compile
        return compile_model(self, *args, jit_compile=chosen, **kwargs)

    return compile_it

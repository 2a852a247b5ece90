"""What is freed between models, and what is left alone."""

import gc
import types

import keras
import numpy as np
import pytest
from small import small_classifier, small_images, small_labels

from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import forget_models

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="about a registry of TensorFlow"
)


def trained():
    model = small_classifier()
    model.compile("sgd", WeakNegative(), jit_compile=False)
    model.fit(small_images(), small_labels(), verbose=0)
    return model


def registered():
    from tensorflow.python.framework import ops

    names = ops.gradient_registry._registry
    return sum(name.startswith("CustomGradient-") for name in names)


def graphs():
    gc.collect()
    return sum(type(item).__name__ == "FuncGraph" for item in gc.get_objects())


@on_tensorflow
def test_the_graph_of_a_trained_model_is_freed():
    forget_models()
    before = graphs()
    trained()
    keras.backend.clear_session()
    count = registered()
    assert count > 0 and graphs() > before  # what TensorFlow keeps of the step
    assert forget_models() == count
    assert registered() == 0 and graphs() == before


@on_tensorflow
def test_a_model_that_lives_on_is_trained_as_before():
    images, labels = small_images(), small_labels()
    weights = []
    for forget in (False, True):
        keras.utils.set_random_seed(0)
        model = trained()
        if forget:
            forget_models()
        model.fit(images, labels, verbose=0)
        model.fit(images[:2], labels[:2], batch_size=2, verbose=0)  # is traced anew
        weights.append(model.get_weights())
    for kept, forgotten in zip(*weights, strict=True):
        np.testing.assert_allclose(forgotten, kept, rtol=1e-5, atol=1e-7)


@on_tensorflow
@pytest.mark.parametrize("registry", [None, types.SimpleNamespace(), [1]])
def test_nothing_fails_where_tensorflow_has_changed(registry, monkeypatch):
    from tensorflow.python.framework import ops

    changed = registry if registry is None else types.SimpleNamespace(_registry=registry)
    monkeypatch.setattr(ops, "gradient_registry", changed)
    assert forget_models() == 0


def test_the_session_is_cleared():
    names = [keras.layers.Dense(1).name for _ in range(2)]
    forget_models()
    assert names[1] != "dense" and keras.layers.Dense(1).name == "dense"

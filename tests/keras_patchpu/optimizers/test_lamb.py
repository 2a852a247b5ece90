"""LAMB against tensorflow-addons and by hand."""

import keras
import numpy as np
import pytest
from backend import numpy

from keras_patchpu.optimizers import Lamb

RUNS = {
    "wd0": {"weight_decay": 0.0},
    "wd1e-4": {"weight_decay": 1e-4},
    "wd1e-2": {"weight_decay": 1e-2},
    "wd1e-2_exbias": {"weight_decay": 1e-2, "no_weight_decay": ["bias"]},
}
NAMES = ("kernel", "bias", "conv")


def values_of_20_steps(arrays, dtype, **arguments):
    """Values of each variable after each step, (20, ...) by name."""
    variables = [
        keras.Variable(arrays[f"init/{name}"].astype(dtype), dtype=dtype, name=name)
        for name in NAMES
    ]
    optimizer = Lamb(learning_rate=0.1, **arguments)
    values = {name: [] for name in NAMES}
    for step, learning_rate in enumerate(arrays["lr"]):
        optimizer.learning_rate = learning_rate
        gradients = [
            keras.ops.convert_to_tensor(arrays[f"grads/{name}"][step].astype(dtype))
            for name in NAMES
        ]
        optimizer.apply(gradients, variables)
        for name, variable in zip(NAMES, variables):
            values[name].append(np.array(numpy(variable)))
    return {name: np.stack(steps) for name, steps in values.items()}


@pytest.mark.parametrize("run", RUNS)
def test_reference_in_float32(golden, run):
    arrays = golden("lamb")
    values = values_of_20_steps(arrays, "float32", **RUNS[run])
    for name in NAMES:
        expected = arrays[f"{run}/{name}"].astype("float64")
        # The bias starts at zero, so its values carry the rounding of its first step.
        tolerance = (1e-5 if name == "bias" else 1e-6) * np.abs(expected).max()
        for reference in (expected, arrays[f"{run}/f64/{name}"]):
            np.testing.assert_allclose(values[name], reference, rtol=0, atol=tolerance)
        displacement = (expected - arrays[f"init/{name}"]).reshape(20, -1)
        error = (values[name] - expected).reshape(20, -1)
        relative = np.linalg.norm(error, axis=1) / np.linalg.norm(displacement, axis=1)
        assert relative.max() < 1e-5


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="the backend has no float64 by default"
)
@pytest.mark.parametrize("run", RUNS)
def test_reference_in_float64(golden, run):
    arrays = golden("lamb")
    arguments = dict(RUNS[run])
    # The reference rounds these to float32, and Keras its learning rate.
    arguments["weight_decay"] = float(np.float32(arguments["weight_decay"]))
    arguments |= {"beta_1": float(np.float32(0.9)), "beta_2": float(np.float32(0.999))}
    values = values_of_20_steps(arrays, "float64", **arguments)
    for name in NAMES:
        expected = arrays[f"{run}/f64/{name}"]
        np.testing.assert_allclose(
            values[name], expected, rtol=0, atol=2e-7 * np.abs(expected).max()
        )


def one_step(weights, gradients, path="weights", **arguments):
    variable = keras.Variable(np.array(weights, "float32"), name=path)
    optimizer = Lamb(**arguments)
    optimizer.apply([keras.ops.convert_to_tensor(np.array(gradients, "float32"))], [variable])
    return numpy(variable)


def test_first_step_by_hand():
    # After one step both corrected moments are g and g^2, so u = sign(g) + 0.1 w.
    update = np.array([1 + 0.3, -1 + 0.4])
    expected = np.array([3.0, 4.0]) - 0.01 * 5 / np.linalg.norm(update) * update
    values = one_step([3, 4], [2, -7], learning_rate=0.01, weight_decay=0.1)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_second_step_by_hand():
    variable = keras.Variable(np.array([2.0], "float32"), name="weights")
    optimizer = Lamb(learning_rate=0.1, beta_1=0.5, beta_2=0.75, epsilon=0.5, weight_decay=0.25)
    weight = 2.0
    first = second = 0.0
    for step, slope in enumerate([4.0, -2.0], start=1):
        first = 0.5 * first + 0.5 * slope
        second = 0.75 * second + 0.25 * slope**2
        update = first / (1 - 0.5**step) / (np.sqrt(second / (1 - 0.75**step)) + 0.5)
        update += 0.25 * weight
        weight -= 0.1 * abs(weight) / abs(update) * update
        optimizer.apply([keras.ops.convert_to_tensor([slope])], [variable])
        np.testing.assert_allclose(numpy(variable), [weight], rtol=1e-5)


def test_the_ratio_is_one_where_a_norm_is_zero():
    np.testing.assert_allclose(
        one_step([0, 0], [5, -3], learning_rate=0.01), [-0.01, 0.01], rtol=1e-5
    )
    # No gradient and no decay: nothing to move, and no division by zero.
    np.testing.assert_array_equal(one_step([3, 4], [0, 0], learning_rate=0.01), [3, 4])


@pytest.mark.parametrize(
    "path, no_weight_decay, no_layer_adaptation, decays, adapts",
    [
        ("bias", None, None, True, True),
        ("bias", ["bias"], None, False, False),
        ("dense/bias", ["bias$"], None, False, False),
        ("bias_of_nothing", ["bias$"], None, True, True),
        ("bias", ["bias"], (), False, True),
        ("bias", None, ["bias"], True, False),
        ("bias", ["kernel"], ["gamma|bias"], True, False),
    ],
)
def test_exemptions(path, no_weight_decay, no_layer_adaptation, decays, adapts):
    name = path.split("/")[-1]
    if "/" in path:
        with keras.name_scope(path.split("/")[0]):
            variable = keras.Variable(np.array([3.0, 4.0], "float32"), name=name)
    else:
        variable = keras.Variable(np.array([3.0, 4.0], "float32"), name=name)
    assert variable.path == path
    optimizer = Lamb(
        learning_rate=0.01,
        weight_decay=0.1,
        no_weight_decay=no_weight_decay,
        no_layer_adaptation=no_layer_adaptation,
    )
    optimizer.apply([keras.ops.convert_to_tensor([2.0, -7.0])], [variable])
    update = np.array([1.0, -1.0]) + (np.array([0.3, 0.4]) if decays else 0)
    ratio = 5 / np.linalg.norm(update) if adapts else 1
    expected = np.array([3.0, 4.0]) - 0.01 * ratio * update
    np.testing.assert_allclose(numpy(variable), expected, rtol=1e-5)


def test_variables_are_told_apart_in_one_model():
    layer = keras.layers.Dense(2)
    layer.build((None, 2))
    layer.set_weights([np.full((2, 2), 1.0), np.array([3.0, 4.0])])
    optimizer = Lamb(learning_rate=0.01, weight_decay=0.5, no_weight_decay=["bias"])
    gradients = [keras.ops.zeros((2, 2)), keras.ops.zeros((2,))]
    optimizer.apply(gradients, layer.trainable_variables)
    # Without gradient only the decay moves: u = 0.5 w, so each step is 1 % of w.
    np.testing.assert_allclose(numpy(layer.kernel), np.full((2, 2), 0.99), rtol=1e-5)
    np.testing.assert_array_equal(numpy(layer.bias), [3, 4])


@pytest.mark.parametrize(
    "multipliers, factor",
    [
        (None, 1),
        ({}, 1),
        ({"kernel": 5.0}, 1),
        ({"weights": 2.0}, 2),
        ({"kernel": 5.0, "^w": 0.5, "weights": 3.0}, 0.5),  # the first that matches
        ({"weights": 0}, 0),
    ],
)
def test_learning_rate_multipliers(multipliers, factor):
    update = np.array([1 + 0.3, -1 + 0.4])
    step = 0.01 * 5 / np.linalg.norm(update) * update
    values = one_step(
        [3, 4],
        [2, -7],
        learning_rate=0.01,
        weight_decay=0.1,
        learning_rate_multipliers=multipliers,
    )
    np.testing.assert_allclose(values, [3, 4] - factor * step, rtol=1e-5)


def test_schedule_and_clipping_of_keras_work():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.01, 0.1])
    variable = keras.Variable(np.array([0.0], "float32"), name="weights")
    optimizer = Lamb(schedule, clipnorm=1.0, no_layer_adaptation=["weights"])
    positions = []
    for _ in range(3):
        optimizer.apply([keras.ops.convert_to_tensor([1000.0])], [variable])
        positions.append(float(numpy(variable)[0]))
    # A constant gradient gives steps of the rate: 0.01, 0.01 (step 1 included), 0.1.
    np.testing.assert_allclose(positions, [-0.01, -0.02, -0.12], rtol=1e-4)
    # Clipped to 1, the velocity is 1 - beta_2^3 and not a million times that.
    np.testing.assert_allclose(numpy(optimizer.variables[-1]), [1 - 0.999**3], rtol=1e-3)

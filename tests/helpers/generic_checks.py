"""Checks that every Keras class that the package registers must pass.

A `Case` says how to build an object with no argument at its default, and what to feed it.
"""

import dataclasses
import inspect
import json

import keras
import numpy as np
from backend import FEW_STEPS, gradient, numpy
from keras import ops

BASE_CLASSES = {
    "layer": keras.layers.Layer,
    "model": keras.Model,
    "loss": keras.losses.Loss,
    "optimizer": keras.optimizers.Optimizer,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """How to test one class.

    Attributes:
        cls: The class.
        arguments: A value other than its default for every argument of the constructor.
        bad: Pairs of an argument and a value that must be refused.
        inputs: Shape of one input of a layer or model, without the batch.
        sublayers: Number of layers inside a layer or model, itself not counted.
        calibrated: Whether batch norms need the statistics of `data()`: with random ones the
            outputs of a deep network are all 0 and 1.
        guesses: Whether a loss learns of labels that nobody observed.
        full_precision: Names of those inside that compute in float32 whatever the dtype policy.
        of_keras: The class of Keras whose arguments the constructor takes too, if any.
    """

    cls: type
    arguments: dict
    bad: list
    inputs: tuple = ()
    sublayers: int = 0
    calibrated: bool = False
    guesses: bool = True
    full_precision: tuple = ()
    of_keras: type | None = None

    @property
    def kind(self):
        return next(kind for kind, base in reversed(BASE_CLASSES.items()) if self.is_a(base))

    def is_a(self, base):
        return issubclass(self.cls, base)

    def build(self, **kwargs):
        return self.cls(**(self.arguments | kwargs))

    def data(self, batch=2, dtype="float32"):
        """Inputs of a layer or model, values from 0 to 255 where they are images."""
        high = 255 if len(self.inputs) > 2 and self.inputs[-1] == 3 else 1
        random = np.random.default_rng(0)
        data = random.uniform(0, high, (batch, *self.inputs))
        return (np.floor(data) if high > 1 else data).astype(dtype)


def constructor_arguments(cls):
    """Own arguments of the constructor and their defaults."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}


def plain(value):
    """What an argument looks like in JSON."""
    if isinstance(value, keras.initializers.Initializer):
        value = keras.initializers.serialize(value)
    if isinstance(value, keras.layers.Layer):
        value = keras.saving.serialize_keras_object(value)
    return json.loads(json.dumps(value))


def shapes(structure):
    return keras.tree.map_structure(lambda x: tuple(x.shape), structure)


def dtypes(structure):
    return keras.tree.map_structure(lambda x: keras.backend.standardize_dtype(x.dtype), structure)


def called(layer, inputs):
    """What a layer gives, and a classifier as its probabilities."""
    outputs = layer(inputs)
    return outputs["probabilities"] if isinstance(outputs, dict) else outputs


def randomize(layer):
    """Gives every float weight random values, so that biases and statistics count too."""
    random = np.random.default_rng(1)
    for weight in layer.weights:
        if "float" not in keras.backend.standardize_dtype(weight.dtype):
            continue
        name, shape = weight.path.split("/")[-1], weight.shape
        if name == "kernel":
            # A depthwise kernel (k, k, channels, 1) sums over its window alone.
            fan_in = np.prod(shape[:-2] if len(shape) == 4 and shape[-1] == 1 else shape[:-1])
            values = random.normal(size=shape) / np.sqrt(fan_in)
        elif name == "moving_variance":
            # Small, because the blocks of EfficientNet shrink what they are given.
            values = random.uniform(0.3, 0.6, shape)
        elif name == "gamma":
            values = random.uniform(0.5, 1.5, shape)
        else:
            values = 0.3 * random.normal(size=shape)
        weight.assign(values)


def built_layer(case, **kwargs):
    layer = case.build(**kwargs)
    if not layer.built:
        layer.build((None, *case.inputs))
    randomize(layer)
    if case.calibrated:
        calibrate(layer, case.data())
    return layer


def calibrate(layer, data):
    """Gives Keras's batch norms the statistics of these data."""
    inner = list(layer._flatten_layers(include_self=False))
    norms = [each for each in inner if isinstance(each, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum, norm.own_momentum = 0.0, norm.momentum
    layer(data, training=True)
    for norm in norms:
        norm.momentum = norm.own_momentum


def as_model(case, layer):
    """A layer as a model of its own; a model as it is."""
    if case.kind == "model":
        return layer
    inputs = keras.Input(case.inputs)
    return keras.Model(inputs, layer(inputs))


# === Config ===


def check_config(case):
    """The config is exactly the constructor's arguments and those of the base class."""
    own = constructor_arguments(case.cls)
    if case.of_keras is not None:  # which has tested its own
        own = {name: own[name] for name in case.arguments}
    for name, default in own.items():
        # Without batch norms a layer is another one: tests of `PatchClassifier.fused` have it.
        # Weights of ImageNet would be downloaded: tests of `ResNetClassifier` have them.
        # Other blocks are in models/test_other_blocks.py.
        if name not in ("name", "batch_norm", "weights", "patch_embedder", "pool", "head"):
            assert name in case.arguments, f"the case leaves out {name!r}"
            assert case.arguments[name] is not default
            assert plain(case.arguments[name]) != default, f"{name!r} is at its default"
    thing = case.build(name="some_name")
    config = thing.get_config()
    base = {
        "layer": {"name", "trainable", "dtype"},
        "model": {"name", "trainable", "dtype"},
        "loss": {"name", "reduction"},
        "optimizer": set(keras.optimizers.SGD().get_config()) - {"momentum", "nesterov"},
    }[case.kind]
    if case.of_keras is not None:
        base |= set(case.of_keras(**case.arguments).get_config())
    assert set(config) == set(own) | base
    assert config["name"] == "some_name"
    for name, value in case.arguments.items():
        expected, stored = plain(value), plain(config[name])
        if isinstance(expected, float):
            np.testing.assert_allclose(stored, expected, rtol=1e-6, err_msg=name)
        else:
            assert stored == expected, name


def check_round_trip(case):
    """`from_config`, and Keras's own serialization through JSON, give the same object."""
    thing = case.build(name="some_name")
    config = thing.get_config()
    rebuilt = case.cls.from_config(thing.get_config())
    assert type(rebuilt) is case.cls
    assert plain(rebuilt.get_config()) == plain(config)
    assert thing.get_config() is not thing.get_config()

    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    assert serialized["registered_name"] == f"keras_patchpu>{case.cls.__name__}"
    restored = keras.saving.deserialize_keras_object(serialized)
    assert type(restored) is case.cls
    assert plain(restored.get_config()) == plain(config)
    # The tuples of a config become lists on the way, and must come back as they were.
    # (But for what Keras keeps of a model inside.)
    models = {name for name, value in case.arguments.items() if isinstance(value, keras.Model)}
    own, expected = (
        {k: v for k, v in c.items() if k not in models} for c in (restored.get_config(), config)
    )
    assert own == expected


def check_trainable(case):
    """A frozen layer stays frozen through its config."""
    layer = case.build(trainable=False)
    assert layer.get_config()["trainable"] is False
    assert case.cls.from_config(layer.get_config()).trainable is False


# === Layers and models ===


def check_weights(case):
    """`build` alone makes all weights, and a rebuilt layer with them computes the same."""
    layer = built_layer(case)
    count = len(layer.weights)
    inner = list(layer._flatten_layers(include_self=False))
    assert len(inner) == case.sublayers
    expected = numpy(called(layer, case.data()))
    assert len(layer.weights) == count
    again = case.cls.from_config(layer.get_config())
    if not again.built:
        again.build((None, *case.inputs))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(called(again, case.data())), expected)


def check_shapes(case):
    """Symbolic and real outputs have the shapes that `compute_output_shape` tells."""
    layer = built_layer(case)
    real, symbolic = layer(case.data()), layer(keras.Input(case.inputs))
    assert dtypes(symbolic) == dtypes(real)
    unknown, known = (layer.compute_output_shape((size, *case.inputs)) for size in (None, 2))
    if not isinstance(real, dict):
        real, symbolic, unknown, known = [{"output": x} for x in (real, symbolic, unknown, known)]
    for name, tensor in real.items():
        assert symbolic[name].shape == tuple(unknown[name]) == (None, *tensor.shape[1:])
        assert tuple(known[name]) == tuple(tensor.shape)
    # One image alone gives what it gives in a batch.
    alone, real = called(layer, case.data()[:1]), called(layer, case.data())
    np.testing.assert_allclose(numpy(alone), numpy(real)[:1], rtol=1e-4, atol=1e-4)


def check_saving(case, path):
    """A `.keras` file gives the same output, and a model rebuilt from it the same config."""
    model = as_model(case, built_layer(case))
    expected = model.predict(case.data(), verbose=0)
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    assert plain(loaded.get_config()) == plain(model.get_config())
    np.testing.assert_allclose(loaded.predict(case.data(), verbose=0), expected, rtol=1e-5)


def check_mixed_precision(case, policy):
    """Outputs have the dtype that was announced, variables are float32, no child is left out."""
    layer = built_layer(case, dtype=policy)
    assert layer.dtype_policy.name == policy
    inner = list(layer._flatten_layers(include_self=False))
    assert len(inner) == case.sublayers
    for each in inner:
        # (A model inside computes nothing of its own.)
        if not isinstance(each, (keras.layers.InputLayer, keras.Model)):
            expected = "float32" if each.name in case.full_precision else policy
            assert each.dtype_policy.name == expected, each.name
    floats = [v for v in layer.variables if "float" in dtypes(v)]
    assert {dtypes(v) for v in floats} <= {"float32"}
    assert dtypes(layer(case.data())) == dtypes(layer(keras.Input(case.inputs)))
    full = built_layer(case)
    np.testing.assert_allclose(
        numpy(called(layer, case.data())), numpy(called(full, case.data())), rtol=0.1, atol=0.05
    )


def check_compiled(case):
    """A compiled call equals an eager one."""
    layer = built_layer(case)
    model = as_model(case, layer)
    model.compile(jit_compile=True)
    np.testing.assert_allclose(
        model.predict(case.data(), verbose=0),
        numpy(called(layer, case.data())),
        rtol=1e-4,
        atol=1e-5,
    )


# === Losses ===


def build_loss(case, num_labels):
    """The case's loss, for this number of labels where it wants to know it."""
    num_labels = max(num_labels, 1)
    return case.build(**({"num_labels": num_labels} if "num_labels" in case.arguments else {}))


def predictions_of(loss, logits, embeddings=None):
    """What a loss takes as `y_pred`: probabilities, or a dict of what it needs."""
    probabilities = 1 / (1 + np.exp(-np.clip(logits, -700, 700).astype("float64")))
    if not loss.needs:
        return probabilities
    random = np.random.default_rng(0)
    if embeddings is None:
        embeddings = random.normal(size=(*logits.shape, 4))
    images, num_labels = logits.shape
    predictions = {
        "logits": logits,
        "probabilities": probabilities,
        "image_embeddings": embeddings,
        # Two places, of which one has the extremes.
        "score_maps": np.stack([logits, np.ones_like(logits)], axis=1)[:, None],
        "epoch": np.array(2),
        **targets_of_data(images, num_labels, (1, 2)),
    }
    return {name: predictions[name].astype("float32") for name in loss.needs}


def targets_of_data(images, num_labels, map_size):
    """What the data give a loss beside labels, by name."""
    random = np.random.default_rng(1)
    return {
        "image_index": np.arange(images)[::-1].copy(),
        "expected_negatives": random.integers(0, 2, (images, num_labels)),
        "average": random.uniform(size=(images, num_labels)),
        "pseudo_labels": random.choice([-1, 0, 0.25, 1], (images, num_labels)),
        "average_maps": random.uniform(size=(images, *map_size, num_labels)),
    }


# What a model computes, as opposed to what the data give.
COMPUTED = {"logits", "probabilities", "image_embeddings", "score_maps"}


def loss_and_gradients(loss, labels, y_pred):
    """Value and the gradient with respect to every tensor of `y_pred` that a model computes."""
    if not isinstance(y_pred, dict):
        return numpy(loss(labels, y_pred)), {
            "probabilities": gradient(lambda x: loss(labels, x), y_pred)
        }
    slopes = {
        name: gradient(lambda x, name=name: loss(labels, {**y_pred, name: x}), y_pred[name])
        for name in y_pred
        if name in COMPUTED
    }
    return numpy(loss(labels, y_pred)), slopes


def extreme_labels_and_logits():
    """Every label with every extreme, and a row that has no observed label."""
    labels = np.array([[1, 1, 1, -1, -1, -1, 0, 0], [0] * 8, [1] + [0] * 7], "int8")
    logits = np.array([-1e4, 1e4, 0, -1e4, 1e4, 0, 1e4, -1e4], "float32")
    return labels, np.stack([logits, logits, logits])


def check_extreme_predictions(case):
    """Finite loss and gradient where probabilities are exactly 0 and 1."""
    labels, logits = extreme_labels_and_logits()
    loss = build_loss(case, labels.shape[1])
    y_pred = predictions_of(loss, logits)
    if not isinstance(y_pred, dict):
        y_pred = y_pred.astype("float32")
        assert {0.0, 1.0} <= set(y_pred.ravel())
    value, slopes = loss_and_gradients(loss, labels, y_pred)
    assert np.isfinite(value) and value > 0
    for name, slope in slopes.items():
        assert np.isfinite(slope).all(), name
    # The confidently missed positive is what must be pulled.
    assert next(iter(slopes.values()))[0, 0] < 0


def check_degenerate_embeddings(case):
    """Finite loss and gradient with embeddings of zeros, among others and alone."""
    labels, logits = extreme_labels_and_logits()
    for embeddings in (np.zeros((3, 8, 4)), np.random.default_rng(0).normal(size=(3, 8, 4))):
        embeddings[:, 0] = 0
        embeddings[0, 6] = 0
        loss = build_loss(case, labels.shape[1])
        y_pred = predictions_of(loss, logits, embeddings)
        value, slopes = loss_and_gradients(loss, labels, y_pred)
        assert np.isfinite(value)
        assert set(slopes) == {"logits", "image_embeddings"}
        for name, slope in slopes.items():
            assert np.isfinite(slope).all(), name


def check_nothing_observed(case):
    """A batch without any observed label teaches nothing, but a loss that guesses labels."""
    logits = np.array([[0.5, -1.0]], "float32")
    loss = build_loss(case, 2)
    y_pred = predictions_of(loss, logits)
    value, slopes = loss_and_gradients(loss, np.zeros((1, 2), "int8"), y_pred)
    assert np.isfinite(value)
    assert (value != 0) == case.guesses
    assert {"logits", "probabilities"} & set(slopes)
    for name, slope in slopes.items():
        assert np.isfinite(slope).all()
        assert (slope != 0).any() == case.guesses, name


def check_half_precision(case):
    """float16 predictions are computed with in float32, extremes included."""
    labels, logits = extreme_labels_and_logits()
    # (Not one loss for both: some remember what they were called with.)
    loss, same = (build_loss(case, labels.shape[1]) for _ in range(2))
    y_pred = predictions_of(loss, logits)
    half = keras.tree.map_structure(lambda x: x.astype("float16"), y_pred)
    full = keras.tree.map_structure(lambda x: x.astype("float32"), half)
    value = loss(labels, keras.tree.map_structure(ops.convert_to_tensor, half))
    assert dtypes(value) == "float32"
    assert np.isfinite(numpy(value))
    np.testing.assert_allclose(numpy(value), numpy(same(labels, full)), rtol=1e-6)


def check_loss_saving(case, path):
    """A compiled model saved with the loss evaluates the same after loading."""
    from small import functional_classifier, small_images, small_labels

    model = functional_classifier()
    loss = build_loss(case, model.num_labels)
    model.compile(loss=loss, **FEW_STEPS)
    if getattr(loss, "estimator", None) is not None:
        randomize(loss.estimator)
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.loss) is case.cls
    assert plain(loaded.loss.get_config()) == plain(loss.get_config())
    images, labels = small_images(), small_labels()
    wanted = set(loss.needs) - COMPUTED - {"epoch"}
    if wanted:
        map_size = model.explain(images, ["score_maps"])["score_maps"].shape[1:3]
        targets = targets_of_data(len(images), model.num_labels, map_size)
        labels = {"labels": labels, **{name: targets[name] for name in wanted}}
    losses = [each.evaluate(images, labels, verbose=0) for each in (model, loaded)]
    assert np.isfinite(losses[0])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


# === Optimizers ===


def check_optimizer_resumes(case, path):
    """Saved after two steps and loaded, the next two steps are those of the original."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 4)), random.normal(size=(6, 2))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    model.compile(case.build(), "mean_squared_error")
    model.fit(x, y, batch_size=6, epochs=2, verbose=0)
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded.optimizer) is case.cls
    assert plain(loaded.optimizer.get_config()) == plain(model.optimizer.get_config())
    before = model.get_weights()
    for each in (model, loaded):
        each.fit(x, y, batch_size=6, epochs=2, verbose=0)
    assert int(loaded.optimizer.iterations) == 4
    for own, other, old in zip(model.get_weights(), loaded.get_weights(), before):
        assert not np.array_equal(own, old)
        np.testing.assert_allclose(other, own, rtol=1e-6, atol=1e-8)
    for own, other in zip(model.optimizer.variables, loaded.optimizer.variables):
        np.testing.assert_allclose(numpy(other), numpy(own), rtol=1e-6, atol=1e-8)


def check_optimizer_lowers_a_loss(case):
    """A few steps down a bowl go down."""
    variable = keras.Variable(np.array([3.0, -2.0], "float32"), name="weights")
    optimizer = case.build()
    for _ in range(20):
        optimizer.apply([2 * variable.value], [variable])
    assert (numpy(variable) ** 2).sum() < 13


# === Errors ===


def check_bad_argument(case, argument, value):
    """A ValueError that names the argument."""
    try:
        case.build(**{argument: value})
    except ValueError as error:
        message = str(error)
        assert argument in message, f"the message does not name {argument!r}: {message}"
    else:
        raise AssertionError(f"{argument}={value!r} is accepted")

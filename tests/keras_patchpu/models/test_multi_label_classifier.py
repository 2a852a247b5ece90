import warnings

import keras
import numpy as np
import pytest
from backend import FEW_STEPS, weight_gradients
from keras import ops
from small import calibrated_classifier, small_classifier, small_images, small_labels

from keras_patchpu import PatchClassifier
from keras_patchpu.losses import (
    AssumeNegative,
    ExpectedNegative,
    RegularizedOnlineLabelEstimation,
    WeakNegative,
)
from keras_patchpu.metrics import choose_thresholds
from keras_patchpu.models import MultiLabelClassifier
from keras_patchpu.optimizers import Lamb

pytestmark = pytest.mark.usefixtures("few_blocks")


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return small_classifier()


@keras.saving.register_keras_serializable(package="tests")
class Recorded(keras.losses.Loss):
    """Mean of one of the tensors that it needs: what the model gave becomes the loss."""

    def __init__(self, of, needs, name="recorded", **kwargs):
        super().__init__(name=name, **kwargs)
        self.of, self.needs = of, tuple(needs)

    def call(self, y_true, y_pred):
        assert set(y_pred) == set(self.needs)
        value = ops.cast(y_pred[self.of], "float32")
        # Keeps a path to the weights, of no effect.
        kept = 0.0 * ops.sum(y_pred["probabilities"], axis=-1)
        if len(value.shape):
            value = ops.mean(ops.reshape(value, (ops.shape(value)[0], -1)), axis=-1)
        return value + kept

    def get_config(self):
        return {**super().get_config(), "of": self.of, "needs": self.needs}


@pytest.mark.parametrize("name", ["logits", "image_embeddings", "score_maps"])
def test_a_loss_gets_the_outputs_that_it_needs(model, name):
    model.compile("sgd", Recorded(name, [name, "probabilities"]), **FEW_STEPS)
    loss = model.evaluate(small_images(), small_labels(), verbose=0)
    expected = model.explain(small_images(), [name])[name].mean()
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_loss_gets_what_the_data_give_beside_the_labels(model):
    model.compile("sgd", Recorded("extra", ["extra", "probabilities"]), **FEW_STEPS)
    extra = np.arange(8, dtype="float32").reshape(4, 2)
    targets = {"labels": small_labels(), "extra": extra}
    assert model.evaluate(small_images(), targets, verbose=0) == pytest.approx(3.5)
    history = model.fit(small_images(), targets, batch_size=2, verbose=0)
    assert history.history["loss"] == pytest.approx([3.5])


def test_metrics_get_labels_and_probabilities_whatever_the_loss_wants(model):
    model.compile(
        "sgd",
        Recorded("extra", ["extra", "probabilities"]),
        metrics=[keras.metrics.MeanMetricWrapper(mean_probability, name="probability")],
        **FEW_STEPS,
    )
    targets = {"labels": small_labels(), "extra": np.zeros(4, "float32")}
    found = model.evaluate(small_images(), targets, verbose=0, return_dict=True)
    presence = small_labels() > 0
    expected = (model.predict(small_images(), verbose=0) * presence).sum(axis=-1).mean()
    assert found["probability"] == pytest.approx(expected, rel=1e-4)


@keras.saving.register_keras_serializable(package="tests")
def mean_probability(y_true, y_pred):
    return ops.sum(ops.cast(y_true, y_pred.dtype) * y_pred, axis=-1)


def test_what_neither_model_nor_data_have_is_named(model):
    model.compile("sgd", Recorded("other", ["other", "probabilities"]), run_eagerly=True)
    with pytest.raises(ValueError, match=r"Recorded needs \['other'\].*an array of labels"):
        model.fit(small_images(), small_labels(), verbose=0)


def test_a_loss_gets_the_number_of_epochs_done(model):
    model.compile("sgd", Recorded("epoch", ["epoch", "probabilities"]), **FEW_STEPS)
    history = model.fit(small_images(), small_labels(), epochs=3, verbose=0)
    assert history.history["loss"] == pytest.approx([0, 1, 2])
    history = model.fit(
        small_images(), small_labels(), initial_epoch=5, epochs=6, callbacks=[], verbose=0
    )
    assert history.history["loss"] == pytest.approx([5])


def role(num_images=4):
    loss = RegularizedOnlineLabelEstimation(num_images, 3, expected_positives=1.5, seed=3)
    loss.start_from(small_labels(num_images))
    return loss


def role_targets():
    return {"labels": small_labels(), "image_index": np.arange(4)}


def estimates(model):
    return ops.convert_to_numpy(model.loss.estimator.label_logits)


def test_a_loss_with_weights_is_trained_with_the_model(model):
    num_parameters = model.num_parameters
    model.compile("adam", role(), **FEW_STEPS)
    before = estimates(model)
    paths = [variable.path for variable in model.trainable_variables]
    assert sum(path.endswith("label_logits") for path in paths) == 1
    assert model.num_parameters == num_parameters
    model.fit(small_images(), role_targets(), batch_size=4, verbose=0)
    # Adam's first step moves each number by the learning rate.
    np.testing.assert_allclose(np.abs(estimates(model) - before), 1e-3, rtol=1e-2)


def test_weights_of_the_loss_are_saved_and_training_goes_on(model, tmp_path):
    def compiled(model):
        optimizer = Lamb(1e-2, learning_rate_multipliers={"label_logits$": 10.0})
        model.compile(optimizer, role(), **FEW_STEPS)

    compiled(model)
    train = {"batch_size": 4, "verbose": 0, "shuffle": False}
    model.fit(small_images(), role_targets(), epochs=2, **train)
    model.save(tmp_path / "model.keras")
    other = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(estimates(other), estimates(model))
    one = model.fit(small_images(), role_targets(), initial_epoch=2, epochs=4, **train)
    two = other.fit(small_images(), role_targets(), initial_epoch=2, epochs=4, **train)
    np.testing.assert_allclose(two.history["loss"], one.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(estimates(other), estimates(model), atol=1e-3)


def test_compiling_anew_forgets_weights_and_counter_of_the_former_loss(model):
    model.compile("adam", role(), **FEW_STEPS)
    model.compile("adam", ExpectedNegative(), **FEW_STEPS)
    assert model.loss_estimator is None and model.epoch_counter is not None
    model.compile("adam", "binary_crossentropy", **FEW_STEPS)
    assert model.epoch_counter is None
    assert not any(v.path.endswith("label_logits") for v in model.trainable_variables)


def test_a_part_predicts_what_explain_gives():
    model = calibrated_classifier()
    model.compile(**FEW_STEPS)
    names = ["score_maps", "probabilities"]
    found = model.part(*names).predict(small_images(5), batch_size=2, verbose=0)
    expected = model.explain(small_images(5))
    assert sorted(found) == sorted(names)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    plain = model.predict(small_images(5), 2, 0)
    np.testing.assert_allclose(plain, expected["probabilities"], atol=1e-5)


def test_a_part_has_the_weights_of_the_model():
    model = calibrated_classifier()
    part = model.part("logits")
    before = part.predict(small_images(), verbose=0)["logits"]
    model.shared_softmax_head.kernel.assign(2.0 * model.shared_softmax_head.kernel)
    after = part.predict(small_images(), verbose=0)["logits"]
    expected = model.explain(small_images(), ["logits"])["logits"]
    np.testing.assert_allclose(after, expected, rtol=1e-4)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("names, received", [(["logit"], "logit"), ([], "none")])
def test_a_part_without_such_an_output(model, names, received):
    message = f"outputs of PatchClassifier: patches, .*. Received: {received}"
    with pytest.raises(ValueError, match=message):
        model.part(*names)


def test_score_maps_are_the_log_odds_of_a_patch_alone():
    """What the model says of an image of one patch is the score of that patch."""
    model = calibrated_classifier()
    single = PatchClassifier(
        **{**model.get_config(), "image_size": (16, 16), "num_downsamples": 0, "name": "single"}
    )
    single.set_weights(model.get_weights())
    images = small_images()
    maps = model.explain(images, ["score_maps"])["score_maps"]
    for row in range(2):
        for column in range(2):
            patch = images[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            logits = single.explain(patch, ["logits"])["logits"]
            np.testing.assert_allclose(maps[:, row, column], logits, rtol=1e-3, atol=1e-4)


def test_sampled_patches_have_no_score_maps():
    outputs = small_classifier(max_patches_per_level=2).output
    assert "patch_logits" in outputs and "score_maps" not in outputs


def bad_images():
    images = small_images().astype("float32")
    images[2, 3, 4, 0] = np.nan
    return images


@pytest.mark.parametrize("loss", [WeakNegative(), "binary_crossentropy"])
def test_bad_pixels_are_refused_before_a_weight_changes(model, loss):
    model.compile("sgd", loss, run_eagerly=True)
    before = model.get_weights()
    message = "image of index 2, the first such one, has 1 values that are NaN or infinite"
    good, labels = (small_images(), small_labels()), small_labels()
    with pytest.raises(ValueError, match=message):
        model.fit(bad_images(), labels, verbose=0)
    with pytest.raises(ValueError, match="`validation_data`: .*" + message):
        model.fit(*good, validation_data=(bad_images(), labels), verbose=0)
    with pytest.raises(ValueError, match=message):
        model.evaluate(bad_images(), labels, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.predict(bad_images(), verbose=0)
    with pytest.raises(ValueError, match=message):
        model.explain(bad_images())
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(new, old)


def test_images_of_another_shape_are_refused_however_the_loss_is_computed(model):
    # Grey images would be taken for colour ones, and a larger size for its upper left corner.
    model.compile("sgd", WeakNegative(), run_eagerly=True)
    for shape in ((4, 32, 32, 1), (4, 48, 48, 3), (32, 32, 3)):
        with pytest.raises(ValueError, match=r"shape \(N, 32, 32, 3\). Received: shape \("):
            model.fit(np.zeros(shape, "uint8"), small_labels(), verbose=0)
        with pytest.raises(ValueError, match=r"shape \(N, 32, 32, 3\). Received: shape \("):
            model.explain(np.zeros(shape, "uint8"))
    with pytest.raises(ValueError, match="at least one image"):
        model.predict(small_images()[:0], verbose=0)


@pytest.mark.parametrize("eagerly", [True, False])
@pytest.mark.parametrize("loss", [WeakNegative(), AssumeNegative()])
def test_labels_of_another_shape_are_refused_from_any_source(model, loss, eagerly):
    # One column would be broadcast to all labels.
    model.compile("sgd", loss, run_eagerly=eagerly, jit_compile=False)
    for labels in (small_labels()[:, :1], np.zeros((4, 4)), small_labels()[:, 0]):
        batches = (batch for batch in [(small_images(), labels)])
        for data in ([small_images(), labels], [batches]):
            with pytest.raises(ValueError, match=r"labels of the shape \(B, 3\).*Received: shape"):
                model.fit(*data, verbose=0)


def test_nan_labels_are_refused(model):
    model.compile("sgd", "binary_crossentropy", run_eagerly=True)
    labels = small_labels().astype("float32")
    labels[1, 2] = np.nan
    for y in (labels, {"labels": labels}):
        with pytest.raises(ValueError, match=r"NaN at index \(1, 2\)"):
            model.fit(small_images(), y, verbose=0)


def test_pixels_are_looked_at_once_and_not_in_every_epoch(model, monkeypatch):
    model.compile("sgd", WeakNegative(), **FEW_STEPS)
    counts = []
    monkeypatch.setattr(
        "keras_patchpu.models.image_classifier.check_images",
        lambda images, size: counts.append(len(images)),
    )
    data = (small_images()[:2], small_labels()[:2])
    model.fit(
        small_images(), small_labels(), batch_size=2, epochs=2, validation_data=data, verbose=0
    )
    assert counts == [4, 2]


def test_from_a_generator_a_loss_that_is_not_finite_stops_training(model):
    model.compile("sgd", WeakNegative(), run_eagerly=True)
    good = small_images().astype("float32")
    batches = [(good, small_labels()), (bad_images(), small_labels())]
    seen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    epochs = []
    model.fit(
        (batch for _ in range(3) for batch in batches),
        steps_per_epoch=2,
        epochs=3,
        callbacks=[keras.callbacks.TerminateOnNaN(), seen],
        verbose=0,
    )
    assert epochs == [0]


# === Made of a functional model by somebody else ===


def tensors(image_size=(32, 32)):
    """Images and what lies between them and probabilities of 3 labels, as symbolic tensors."""
    images = keras.Input((*image_size, 3))
    places = keras.layers.Conv2D(3 * 4, 16, strides=16)(keras.layers.Rescaling(1 / 255)(images))
    embeddings = keras.layers.GlobalAveragePooling2D()(places)
    embeddings = keras.layers.Reshape((3, 4))(embeddings)
    logits = keras.layers.Reshape((3,))(keras.layers.Dense(1)(embeddings))
    probabilities = keras.layers.Activation("sigmoid")(logits)
    return images, {
        "image_embeddings": embeddings,
        "logits": logits,
        "probabilities": probabilities,
    }


def of_tensors(**kwargs):
    keras.utils.set_random_seed(0)
    return MultiLabelClassifier(*tensors(), **kwargs)


def test_the_tensors_are_the_outputs():
    images, outputs = tensors()
    expected = keras.Model(images, outputs)(small_images())
    model = MultiLabelClassifier(images, outputs)
    found = model.explain(small_images())
    assert set(found) == {"image_embeddings", "logits", "probabilities"}
    for name, values in found.items():
        np.testing.assert_allclose(values, ops.convert_to_numpy(expected[name]), atol=1e-6)
    assert set(model.explain(small_images(), ["logits"])) == {"logits"}
    assert model.num_labels == 3


def test_calling_gives_all_outputs_and_predicting_the_probabilities():
    model = of_tensors()
    expected = model.explain(small_images())
    np.testing.assert_allclose(
        model.predict(small_images(), verbose=0), expected["probabilities"], atol=1e-6
    )
    for name, values in model(small_images(), training=True).items():
        np.testing.assert_allclose(ops.convert_to_numpy(values), expected[name], atol=1e-6)
    symbolic = model(keras.Input((32, 32, 3)))
    assert {name: tensor.shape for name, tensor in symbolic.items()} == {
        "image_embeddings": (None, 3, 4),
        "logits": (None, 3),
        "probabilities": (None, 3),
    }


def test_probabilities_alone_will_do():
    images, outputs = tensors()
    model = MultiLabelClassifier(images, outputs["probabilities"])
    assert list(model.explain(small_images())) == ["probabilities"]
    assert model.num_labels == 3


def test_a_loss_that_wants_more_trains_it():
    model = of_tensors()
    model.compile(keras.optimizers.SGD(0.1), WeakNegative(), **FEW_STEPS)
    before = [ops.convert_to_numpy(weight) for weight in model.trainable_variables]

    def loss():
        return WeakNegative()(small_labels(), model(small_images()))

    expected, gradients = float(loss()), weight_gradients(model, loss)
    history = model.fit(small_images(), small_labels(), batch_size=4, verbose=0)
    assert history.history["loss"] == pytest.approx([expected], rel=1e-5)
    for weight, start, gradient in zip(model.trainable_variables, before, gradients):
        np.testing.assert_allclose(weight, start - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_it_is_saved_with_names_thresholds_and_loss(tmp_path):
    model = of_tensors(label_names=("a", "b", "c"), thresholds=(0.1, 0.5, 0.9))
    model.compile(Lamb(1e-2), WeakNegative(theta=0.2), **FEW_STEPS)
    model.fit(small_images(), small_labels(), batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is MultiLabelClassifier
    assert (again.label_names, again.thresholds) == (("a", "b", "c"), (0.1, 0.5, 0.9))
    assert again.loss.theta == 0.2
    for name, values in model.explain(small_images()).items():
        np.testing.assert_array_equal(again.explain(small_images())[name], values)
    before = model.evaluate(small_images(), small_labels(), verbose=0)
    assert again.evaluate(small_images(), small_labels(), verbose=0) == pytest.approx(before)


def test_inputs_of_any_kind():
    """A feature map, tokens and a vector, of values that are no pixels."""
    for shape in ((2, 2, 5), (4, 5), (5,)):
        inputs = keras.Input(shape)
        flat = keras.layers.Flatten()(inputs)
        model = MultiLabelClassifier(inputs, keras.layers.Dense(3, activation="sigmoid")(flat))
        model.compile("sgd", AssumeNegative(), **FEW_STEPS)
        values = np.random.default_rng(0).normal(0, 1000, (4, *shape))
        model.fit(values, small_labels(), verbose=0)
        assert model.predict(values, verbose=0).shape == (4, 3)
    first, second = keras.Input((2,), name="first"), keras.Input((3,), name="second")
    both = keras.layers.Concatenate()([first, second])
    model = MultiLabelClassifier(
        {"first": first, "second": second}, keras.layers.Dense(3, activation="sigmoid")(both)
    )
    values = {"first": np.ones((4, 2)), "second": np.ones((4, 3))}
    assert model.explain(values)["probabilities"].shape == (4, 3)


@pytest.mark.parametrize("outputs", ["logits", "image_embeddings", "places"])
def test_outputs_without_probabilities_are_refused(outputs):
    images, found = tensors()
    found["places"] = found["image_embeddings"]
    del found["probabilities"]
    chosen = found["image_embeddings"] if outputs == "places" else {outputs: found[outputs]}
    with pytest.raises(ValueError, match=r"probabilities \(B, L\), or a dict"):
        MultiLabelClassifier(images, chosen)


@pytest.mark.parametrize("loss", [AssumeNegative(), WeakNegative()])
def test_the_loss_of_the_probabilities_in_a_list_or_dict_and_its_weight(loss):
    model = of_tensors()
    data = (small_images(), small_labels())

    def value(loss, loss_weights=None):
        model.compile("sgd", loss, loss_weights, **FEW_STEPS)
        return model.evaluate(*data, verbose=0)

    one = value(loss)
    assert value([loss]) == pytest.approx(one)
    assert value({"probabilities": loss}) == pytest.approx(one)
    for weight in (10, 10.0, [10.0], {"probabilities": 10.0}):
        assert value(loss, weight) == pytest.approx(10 * one, rel=1e-5)
    for wrong in ([loss, loss], {"logits": loss}, []):
        with pytest.raises(ValueError, match="Expected `loss` for the probabilities alone"):
            value(wrong)
    with pytest.raises(ValueError, match="Expected `loss_weights` for the probabilities alone"):
        value(loss, [1.0, 2.0])


def test_metrics_and_losses_of_keras_get_presence():
    """What is -1 or 0 here is 0 to Keras."""
    model = of_tensors()
    metrics = [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.45)]
    model.compile("sgd", "binary_crossentropy", metrics=metrics, **FEW_STEPS)
    labels = np.where(small_labels() > 0, 1, -1)
    found = model.evaluate(small_images(), labels, verbose=0, return_dict=True)
    scores = model.predict(small_images(), verbose=0)
    present = labels > 0
    accuracy = ((scores > 0.45) == present).mean()
    crossentropy = -np.log(np.where(present, scores, 1 - scores)).mean()
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["loss"] == pytest.approx(crossentropy, rel=1e-4)


def test_unknown_labels_under_metrics_of_keras_are_told():
    model = of_tensors()
    labels = np.array([[1, 0, -1], [0, 0, 1]])
    model.compile("sgd", "binary_crossentropy", metrics=["AUC"], **FEW_STEPS)
    with pytest.warns(UserWarning, match=r"3 of 6 labels are unknown \(0\)"):
        model.evaluate(small_images()[:2], labels, verbose=0)
    model.compile("sgd", "binary_crossentropy", **FEW_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.evaluate(small_images()[:2], labels, verbose=0)


def test_thresholds_as_they_are_chosen(model):
    labels, scores = (
        np.array([[1, -1, 1], [-1, 1, -1]]),
        np.array([[0.8, 0.1, 0.6], [0.2, 0.5, 0.4]]),
    )
    model.thresholds = choose_thresholds(labels, scores)["thresholds"]
    assert model.thresholds == pytest.approx((0.5, 0.3, 0.5))


def test_before_compiling_fit_says_what_keras_says(model):
    with pytest.raises(ValueError, match=r"compile\(\)"):
        model.fit(small_images(), small_labels(), verbose=0)


def test_tensorflow_traces_a_training_step_once(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("about tf.function")
    traced, train_step = [], MultiLabelClassifier.train_step

    def recorded(self, data):
        traced.append(self)
        return train_step(self, data)

    monkeypatch.setattr(MultiLabelClassifier, "train_step", recorded)
    model = of_tensors()
    model.compile(Lamb(), "binary_crossentropy", run_eagerly=False, jit_compile=False)
    images = np.zeros((4, 32, 32, 3), "float32")
    model.fit(images, np.zeros((4, model.num_labels), "float32"), batch_size=2, verbose=0)
    assert len(traced) == 1

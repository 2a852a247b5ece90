"""The whole network: sizes, intermediates, and Keras's own training with it."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from backend import FEW_STEPS, numpy
from keras import ops
from small import calibrated_classifier, small_classifier, small_images, small_labels

from keras_patchpu import PatchClassifier
from keras_patchpu.layers import patch_embedder
from keras_patchpu.losses import RegularizedOnlineLabelEstimation, WeakNegative
from keras_patchpu.optimizers import Lamb

pytestmark = pytest.mark.usefixtures("few_blocks")

BLOCKS = patch_embedder.BLOCKS
LAYERS = ["patch_extractor", "patch_embedder", "codebook_attention_pool", "shared_softmax_head"]


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def weak_negative_loss(labels, logits, embeddings):
    """Eq. (7)-(9) with theta 0 in NumPy, one value an image."""
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    similarity = np.maximum(np.einsum("blf,bkf->blk", unit, unit), 0)
    weights = np.where(labels[:, None, :] == 1, similarity, 0).max(axis=-1)
    weights = np.where(labels == 1, 0, np.where(labels == -1, 1, weights))
    logits = logits.astype("float64")
    losses = (labels == 1) * np.logaddexp(0, -logits) + weights * np.logaddexp(0, logits)
    return losses.sum(axis=-1)


@pytest.mark.parametrize("num_labels, parameters", [(80, 251_682), (20, 220_962)])
def test_size_of_the_paper(num_labels, parameters, all_blocks):
    model = PatchClassifier(num_labels)
    assert model.count_params() == parameters
    assert model.input_shape == (None, 640, 640, 3)
    assert {name: tensor.shape[1:] for name, tensor in model.output.items()} == {
        "patches": (130, 64, 64, 3),
        "patch_embeddings": (130, 256),
        "attention": (num_labels, 130),
        "image_embeddings": (num_labels, 256),
        "logits": (num_labels,),
        "probabilities": (num_labels,),
        "patch_logits": (num_labels, 130),
        "score_maps": (10, 10, num_labels),
    }
    assert model.patch_boxes.shape == (130, 4)


def test_summary_names_the_blocks():
    lines = []
    model = small_classifier()
    model.summary(print_fn=lambda line, **kwargs: lines.append(line), line_length=120)
    text = "\n".join(lines)
    positions = [text.index(name) for name in ["images", *LAYERS]]
    assert positions == sorted(positions)
    assert [layer.name for layer in model.layers] == ["images", *LAYERS]


def test_explain_names_and_shapes_and_predict():
    model = calibrated_classifier()
    images = small_images()
    outputs = model.explain(images)
    assert {name: values.shape for name, values in outputs.items()} == {
        "patches": (4, 5, 16, 16, 3),
        "patch_embeddings": (4, 5, 8),
        "attention": (4, 3, 5),
        "image_embeddings": (4, 3, 8),
        "logits": (4, 3),
        "probabilities": (4, 3),
        "patch_logits": (4, 3, 5),
        "score_maps": (4, 2, 2, 3),
    }
    assert {values.dtype.name for values in outputs.values()} == {"float32"}
    np.testing.assert_array_equal(outputs["patches"][:, 0], images[:, :16, :16])
    np.testing.assert_array_equal(outputs["patches"][:, 3], images[:, 16:, 16:])
    np.testing.assert_allclose(outputs["attention"].sum(axis=-1), np.ones((4, 3)), atol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"], sigmoid(outputs["logits"]), atol=1e-6)

    predicted = model.predict(images, batch_size=3, verbose=0)
    assert predicted.shape == (4, 3)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, outputs["probabilities"], atol=1e-5)
    np.testing.assert_allclose(
        numpy(model(images)["probabilities"]), outputs["probabilities"], atol=1e-5
    )
    # Probabilities that differ between images and labels, so that the above says something.
    assert predicted.std(axis=0).min() > 1e-3 and predicted.std(axis=1).min() > 1e-3


def test_uint8_and_float32_images_are_equal():
    model = calibrated_classifier()
    images = small_images()
    as_float = images.astype("float32")
    np.testing.assert_array_equal(
        numpy(model(images)["probabilities"]), numpy(model(as_float)["probabilities"])
    )
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), model.predict(as_float, verbose=0)
    )
    np.testing.assert_array_equal(
        model.explain(images)["logits"], model.explain(as_float)["logits"]
    )


def test_patch_boxes_belong_to_the_patches():
    expected = [
        [0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1], [0, 0, 1, 1]
    ]  # fmt: skip
    np.testing.assert_array_equal(small_classifier().patch_boxes, expected)


def test_images_need_not_be_square():
    model = small_classifier(image_size=(32, 48), num_downsamples=0)
    assert model.explain(np.zeros((1, 32, 48, 3), "uint8"))["patches"].shape == (1, 6, 16, 16, 3)


def test_fit_with_a_stock_loss():
    model = small_classifier()
    model.compile("adam", "binary_crossentropy", **FEW_STEPS)
    images, labels = small_images(), (small_labels() == 1).astype("float32")
    probabilities = model.predict(images, verbose=0).astype("float64")
    expected = -np.where(labels == 1, np.log(probabilities), np.log(1 - probabilities)).mean()
    assert model.evaluate(images, labels, verbose=0) == pytest.approx(expected, rel=1e-3)
    losses = model.fit(images, labels, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def trained():
    """A classifier after three epochs with the paper's loss, and its training log."""
    keras.utils.set_random_seed(0)
    model = small_classifier(max_patches_per_level=2, seed=3)
    model.compile(
        Lamb(5e-3, weight_decay=1e-3, no_weight_decay=["bias"]),
        WeakNegative(),
        metrics=[keras.metrics.MeanSquaredError(name="error")],
    )
    initial = [weight.copy() for weight in model.get_weights()]
    # Seven images in batches of three: the last batch is a single image.
    log = model.fit(small_images(7), small_labels(7), batch_size=3, epochs=3, verbose=0)
    return model, initial, log.history


def test_fit_with_the_papers_loss(trained):
    model, initial, history = trained
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["error"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert int(model.optimizer.iterations) == 9
    unchanged = [
        weight.path
        for weight, before in zip(model.weights, initial)
        if np.array_equal(numpy(weight), before)
    ]
    assert unchanged == []


def test_evaluate_equals_numpy_and_metrics_get_probabilities(trained):
    model, _, _ = trained
    images, labels = small_images(5, seed=1), small_labels(5)
    outputs = model.explain(images)
    results = model.evaluate(images, labels, batch_size=2, return_dict=True, verbose=0)
    losses = weak_negative_loss(labels, outputs["logits"], outputs["image_embeddings"])
    assert results["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    error = (((labels > 0) - outputs["probabilities"]) ** 2).mean()
    assert results["error"] == pytest.approx(error, rel=1e-4)


def test_evaluate_with_sample_weight():
    model = calibrated_classifier()
    model.compile(loss=WeakNegative(), **FEW_STEPS)
    images, labels = small_images(4), small_labels(4)
    outputs = model.explain(images)
    losses = weak_negative_loss(labels, outputs["logits"], outputs["image_embeddings"])
    result = model.evaluate(
        images, labels, sample_weight=np.array([4.0, 0, 0, 0]), batch_size=4, verbose=0
    )
    assert result == pytest.approx(losses[0], rel=1e-4)


def test_prediction_and_training_alternate(trained):
    # The dict that a training step gives its loss must not leak into `predict` or a call.
    model, _, _ = trained
    images = small_images(3)
    before = model.predict(images, verbose=0)
    model.evaluate(images, small_labels(3), verbose=0)
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)
    np.testing.assert_allclose(numpy(model(images)["probabilities"]), before, atol=1e-5)
    on_batch = model.test_on_batch(images, small_labels(3), return_dict=True)
    assert on_batch["loss"] == pytest.approx(
        model.evaluate(images, small_labels(3), verbose=0, return_dict=True)["loss"], rel=1e-4
    )


def test_compute_loss_of_a_plain_call():
    model = calibrated_classifier()
    model.compile(loss=WeakNegative(), **FEW_STEPS)
    images, labels = ops.convert_to_tensor(small_images()), small_labels()
    value = model.compute_loss(images, labels, model(images), training=False)
    outputs = model.explain(images)
    expected = weak_negative_loss(labels, outputs["logits"], outputs["image_embeddings"]).mean()
    assert float(numpy(value)) == pytest.approx(expected, rel=1e-4)


def test_training_draws_patches():
    model = small_classifier(max_patches_per_level=1, seed=0)
    images = small_images(2)
    assert model(images, training=True)["patches"].shape == (2, 2, 16, 16, 3)
    assert model.explain(images)["patches"].shape == (2, 5, 16, 16, 3)


def test_arguments_reach_their_layers():
    model = small_classifier(
        strides=8,
        downsample_ratio=2,
        codebook_initializer="zeros",
        batch_norm_momentum=0.5,
        pixel_mean=(0.1, 0.2, 0.3),
        pixel_variance=(1, 2, 3),
    )
    outputs = model.explain(small_images())
    assert outputs["patches"].shape[1] == 9 + 1
    np.testing.assert_allclose(outputs["attention"], np.full((4, 3, 10), 0.1), atol=1e-6)
    assert model.patch_embedder.stem_bn.momentum == 0.5
    assert model.patch_embedder.pixel_mean == (0.1, 0.2, 0.3)
    assert model.patch_embedder.pixel_variance == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("how", ["argument", "global policy"])
def test_training_in_half_precision_scales_the_loss(how):
    # Gradients below 6e-8 are zero in float16, so Keras wraps the optimizer.
    if how == "global policy":
        keras.config.set_dtype_policy("mixed_float16")
        model = small_classifier()
    else:
        model = small_classifier(dtype="mixed_float16")
    model.compile(Lamb(), WeakNegative(), **FEW_STEPS)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    log = model.fit(small_images(), small_labels(), verbose=0)
    assert np.isfinite(log.history["loss"]).all()
    assert model.predict(small_images(), verbose=0).dtype == np.float32


@pytest.mark.parametrize("image_size", [(32,), (32, 32, 3), (8, 32), (32, None), 32])
def test_bad_image_sizes_are_explained(image_size):
    with pytest.raises(ValueError, match="image_size"):
        small_classifier(image_size=image_size)


FRESH_PROCESS = """
import json, sys
import keras, numpy as np
import keras_patchpu
from keras_patchpu.layers import patch_embedder
patch_embedder.BLOCKS = patch_embedder.BLOCKS[:1]  # as here
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
model.jit_compile = False  # as here
data = np.load(sys.argv[1] + "/data.npz")
predicted = model.predict(data["images"], verbose=0)
evaluated = model.evaluate(data["images"], data["labels"], verbose=0, return_dict=True)
state = {f"optimizer/{i}": keras.ops.convert_to_numpy(v)
         for i, v in enumerate(model.optimizer.variables)}
np.savez(sys.argv[1] + "/result.npz", predicted=predicted, **state)
print(json.dumps({"evaluated": evaluated, "names": [
    type(model).__name__, type(model.optimizer).__name__, type(model.loss).__name__]}))
"""


def test_load_in_a_process_that_only_imports_the_package(trained, tmp_path):
    model, _, _ = trained
    images, labels = small_images(5, seed=1), small_labels(5)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    process = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"KERAS_BACKEND": keras.backend.backend()},
    )
    assert process.returncode == 0, process.stderr
    answer = json.loads(process.stdout.splitlines()[-1])
    assert answer["names"] == ["PatchClassifier", "Lamb", "WeakNegative"]
    expected = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert answer["evaluated"] == pytest.approx(expected, rel=1e-5)
    with np.load(tmp_path / "result.npz") as result:
        np.testing.assert_allclose(result["predicted"], model.predict(images, verbose=0), atol=1e-6)
        own = model.optimizer.variables
        assert sum(name.startswith("optimizer/") for name in result) == len(own)
        for index, variable in enumerate(own):
            np.testing.assert_array_equal(result[f"optimizer/{index}"], numpy(variable))


def test_other_strides_see_the_same_patches_and_those_between():
    images = small_images()
    model = calibrated_classifier()
    finer = model.with_strides(8)
    assert finer.patch_extractor.strides == 8 and model.patch_extractor.strides is None
    ours, theirs = model.explain(images), finer.explain(images)
    assert theirs["attention"].shape[-1] == 10
    # Of 3x3 patches the four in the corners, and the one of the second level.
    for name in ("patch_embeddings", "patch_logits"):
        axis = 1 if name == "patch_embeddings" else 2
        same = np.take(theirs[name], [0, 2, 6, 8, 9], axis=axis)
        np.testing.assert_allclose(same, ours[name], rtol=1e-3, atol=1e-4)
    assert np.ptp(ours["patch_logits"]) > 1e-3


def test_other_strides_leave_the_weights_of_the_loss_behind():
    model = calibrated_classifier()
    loss = RegularizedOnlineLabelEstimation(num_images=4, num_labels=3, expected_positives=1.0)
    model.compile("sgd", loss)
    assert model.with_strides(8).num_parameters == model.num_parameters
    images = small_images()
    expected = model.explain(images, ["patch_logits"])["patch_logits"]
    found = model.with_strides(16).explain(images, ["patch_logits"])["patch_logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_logits_of_patches_are_those_of_all_attention_on_one():
    model, images = calibrated_classifier(), small_images()
    explained = model.explain(images)
    pool, head = model.codebook_attention_pool, model.shared_softmax_head
    for patch in range(5):
        alone = np.repeat(explained["patch_embeddings"][:, patch, None], 3, axis=1)
        _, logits = head(pool.embed(keras.ops.convert_to_tensor(alone)), return_logits=True)
        found = explained["patch_logits"][:, :, patch]
        np.testing.assert_allclose(found, numpy(logits), rtol=1e-3, atol=1e-4)
    maps = explained["score_maps"].reshape(4, 4, 3)  # images, places, labels
    first = explained["patch_logits"][:, :, :4].swapaxes(1, 2)
    np.testing.assert_allclose(first, maps, rtol=1e-5, atol=1e-6)


@pytest.fixture
def three_blocks(monkeypatch):
    """Of the embedder's blocks those that differ: no expansion, a stride of 2, a shortcut."""
    monkeypatch.setattr(patch_embedder, "BLOCKS", BLOCKS[:3])


def test_fused_has_the_same_probabilities_and_no_batch_norm(with_xla, three_blocks, tmp_path):
    random = np.random.default_rng(0)
    model = PatchClassifier(5, image_size=(32, 32), patch_size=16, num_downsamples=1, features=16)
    # Statistics and weights away from their neutral values.
    model.set_weights(
        [
            random.uniform(0.5, 1.5, weight.shape) if weight.ndim == 1 else weight
            for weight in model.get_weights()
        ]
    )
    images = random.integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    expected = model.predict(images, verbose=0)
    fused = model.fused()
    assert not [w.path for w in fused.weights if "moving" in w.path or "gamma" in w.path]
    np.testing.assert_allclose(fused.predict(images, verbose=0), expected, atol=1e-4)
    assert np.ptp(expected) > 1e-3  # they differ at all
    fused.save(tmp_path / "fused.keras")
    loaded = keras.saving.load_model(tmp_path / "fused.keras")
    for again in (loaded, fused.fused()):  # called, which compiles nothing
        np.testing.assert_allclose(numpy(again(images)["probabilities"]), expected, atol=1e-4)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="an eager step takes a minute; see test_patches_last"
)
def test_a_compiled_step_equals_an_eager_one(with_xla, three_blocks):
    """XLA computes the embedder in another layout: same loss, same weights after a step."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    labels = np.eye(5, dtype="int8")[[0, 1, 2, 3]]
    results = []
    for options in ({}, {"run_eagerly": True}):
        keras.utils.set_random_seed(0)
        model = PatchClassifier(
            5, image_size=(32, 32), patch_size=16, num_downsamples=1, features=16
        )
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(1e-2), WeakNegative(), **options)
        loss = model.train_on_batch(images, labels)
        changes = [new - old for new, old in zip(model.get_weights(), start)]
        results.append((loss, changes, model.predict(images, verbose=0)))
    (loss, changes, probabilities), (eager_loss, eager_changes, eager_probabilities) = results
    np.testing.assert_allclose(loss, eager_loss, rtol=1e-5)
    np.testing.assert_allclose(probabilities, eager_probabilities, atol=1e-4)
    largest = max(np.abs(change).max() for change in eager_changes)
    for change, eager_change in zip(changes, eager_changes):
        np.testing.assert_allclose(change, eager_change, rtol=0, atol=1e-4 * largest)


def test_xla_is_chosen_on_a_cpu_and_saved_as_a_choice(with_xla, tmp_path):
    model = PatchClassifier(5, image_size=(32, 32), patch_size=16, num_downsamples=0, features=8)
    model.compile("sgd", "binary_crossentropy")
    assert model.jit_compile == (keras.backend.backend() != "torch")
    model.build((None, 32, 32, 3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["jit_compile"] == "auto"
    assert loaded.optimizer.built
    assert loaded.jit_compile == model.jit_compile
    model.compile("sgd", "binary_crossentropy", jit_compile=False)
    assert model.jit_compile is False
    model.compile("sgd", "binary_crossentropy", run_eagerly=True)
    assert model.jit_compile is False


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras's own choice")
def test_xla_is_off_for_large_patches(with_xla):
    model = PatchClassifier(5, image_size=(64, 64), num_downsamples=0, features=8)
    model.compile("sgd", "binary_crossentropy")
    assert model.jit_compile is False
    assert model.fused().jit_compile is False

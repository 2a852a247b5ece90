"""Exported files, run by their runtimes, against Keras; what they say of themselves; errors."""

import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from code_blocks import blocks
from keras import ops
from PIL import Image
from small import (
    calibrated_classifier,
    save_as_run,
    small_backbone_classifier,
    small_classifier,
    small_images,
)

from keras_patchpu._version import __version__
from keras_patchpu.datasets.read_image import fit_image, read_image
from keras_patchpu.export import check_export, export_classifier
from keras_patchpu.export.graph import portable
from keras_patchpu.metrics import attention_heatmap
from keras_patchpu.models import ResNetClassifier
from patchpu.commands.export import main

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="export needs TensorFlow"
)
# The function has the name of its module.
MODULE = sys.modules["keras_patchpu.export.export_classifier"]
NAMES = ["cat", "dog", "écu"]
THRESHOLDS = [0.5, 0.25, 1.0]
# By hand: 32x32 pixels are 2x2 patches of 16, their copy of half the size is one.
METADATA = {
    "keras_patchpu": __version__,
    "model": "PatchClassifier",
    "label_names": NAMES,
    "thresholds": THRESHOLDS,
    "image_size": [32, 32],
    "image_fit": "pad",
    "patch_size": 16,
    "level_sizes": [[32, 32], [16, 16]],
    "level_grids": [[2, 2], [1, 1]],
    "patch_boxes": [
        [0, 0, 0.5, 0.5],
        [0, 0.5, 0.5, 1],
        [0.5, 0, 1, 0.5],
        [0.5, 0.5, 1, 1],
        [0, 0, 1, 1],
    ],
}
FILES = {"onnx": "last.onnx", "litert": "last.tflite", "tf_saved_model": "last_saved_model"}
FORMATS = list(FILES)


def run(*arguments):
    """Exit code of the command."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code
    return 0


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return calibrated_classifier(label_names=NAMES, thresholds=THRESHOLDS, image_fit="pad")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """A run folder with the model, and seven images."""
    folder = tmp_path_factory.mktemp("run")
    save_as_run(model, folder)
    (folder / "images").mkdir()
    for index, pixels in enumerate(small_images(7, seed=5)):
        Image.fromarray(pixels[:, : 32 - index]).save(folder / "images" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    """A function of a format to the file that the command made of the run folder."""

    def path(format):
        if format == "onnx":
            pytest.importorskip("tf2onnx")
        if not (folder / FILES[format]).exists():
            assert run(folder, "--format", format, "--attention") == 0
        return folder / FILES[format]

    return path


def outputs_of(path, images):
    """Outputs by name, of the file's own runtime."""
    if path.suffix == ".onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(None, {"images": images})))
    if path.suffix == ".tflite":
        interpreter = pytest.importorskip("ai_edge_litert.interpreter")
        return interpreter.Interpreter(str(path)).get_signature_runner()(images=images)
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return {name: value.numpy() for name, value in loaded.serve(images).items()}


def metadata_of(path):
    if path.suffix == ".onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        found = session.get_modelmeta().custom_metadata_map
        return {name: json.loads(value) for name, value in found.items()}
    if path.suffix == ".tflite":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))
    return json.loads((path / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))


# === Values ===


@pytest.mark.parametrize("format", FORMATS)
def test_scores_and_attention_are_those_of_keras(format, exported, model):
    path = exported(format)
    for count in (1, 3):
        images = small_images(count, seed=count)
        wanted = model.explain(images, ["probabilities", "attention"])
        found = outputs_of(path, images)
        assert set(found) == {"scores", "attention"}
        np.testing.assert_allclose(found["scores"], wanted["probabilities"], atol=1e-4)
        np.testing.assert_allclose(found["attention"], wanted["attention"], atol=1e-4)
    # Images and labels differ, so that the above is no comparison of constants.
    assert np.ptp(found["scores"], axis=0).min() > 1e-3
    assert np.ptp(found["attention"]) > 0.05


@pytest.mark.parametrize("format", FORMATS)
def test_the_whole_network_of_a_backbone_classifier(format, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    keras.utils.set_random_seed(0)
    model = small_backbone_classifier(
        codebook_initializer=keras.initializers.RandomNormal(stddev=3)
    )
    images, path = small_images(3), tmp_path / FILES[format]
    wanted = model.explain(images, ["probabilities", "attention"])
    activation = model.codebook_attention_pool.mlp_hidden.activation
    export_classifier(model, path, format, attention=True)
    found = outputs_of(path, images)
    np.testing.assert_allclose(found["scores"], wanted["probabilities"], atol=1e-4)
    np.testing.assert_allclose(found["attention"], wanted["attention"], atol=1e-4)
    assert np.ptp(found["attention"]) > 0.01
    metadata = metadata_of(path)
    assert metadata["level_grids"] == [[4, 4]] and "patch_size" not in metadata
    assert metadata["patch_boxes"][5] == [0.25, 0.25, 0.5, 0.5]
    assert model.codebook_attention_pool.mlp_hidden.activation is activation


def test_what_onnx_takes_and_gives(exported):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(exported("onnx"))
    described = [
        (value.name, value.type, value.shape)
        for value in (*session.get_inputs(), *session.get_outputs())
    ]
    assert described == [
        ("images", "tensor(uint8)", ["batch", 32, 32, 3]),
        ("scores", "tensor(float)", ["batch", 3]),
        ("attention", "tensor(float)", ["batch", 3, 5]),
    ]


def test_mixed_precision_is_exported_in_single(model):
    mixed = small_classifier(dtype="mixed_float16")
    for new, own in zip(mixed.layers, model.layers):
        new.set_weights(own.get_weights())
    images = small_images(2)
    found = portable(mixed)(ops.convert_to_tensor(images))
    assert list(found) == ["scores"]
    wanted = model.explain(images, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-4)
    assert abs(mixed.explain(images, ["probabilities"])["probabilities"] - wanted).max() > 1e-4


def test_without_the_second_layer_of_the_pooling(model):
    plain = calibrated_classifier(hidden_units=None, max_patches_per_level=1)
    images = small_images(2)
    found = portable(plain)(ops.convert_to_tensor(images))["scores"]
    wanted = plain.explain(images, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_resnet(format, tmp_path):
    model = ResNetClassifier(3, (32, 32), width=0.1, output_stride=16)
    path = tmp_path / FILES[format]
    export_classifier(model, path, format)
    images = small_images(3)
    found = outputs_of(path, images)
    assert list(found) == ["scores"]
    np.testing.assert_allclose(found["scores"], model.predict(images, verbose=0), atol=1e-4)
    assert metadata_of(path)["label_names"] == ["0", "1", "2"]
    assert not {"patch_boxes", "level_grids"} & set(metadata_of(path))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "changes",
    [{"strides": 8}, {"image_size": (45, 51)}, {"image_size": (48, 48), "downsample_ratio": 3}],
    ids=["strides", "odd", "ratio"],
)
def test_other_patches(format, changes, tmp_path):
    model = small_classifier(**changes)
    path = tmp_path / FILES[format]
    export_classifier(model, path, format, attention=True)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, *model.image_size, 3)).astype("uint8")
    wanted = model.explain(images, ["probabilities", "attention"])
    found = outputs_of(path, images)
    np.testing.assert_allclose(found["scores"], wanted["probabilities"], atol=1e-4)
    np.testing.assert_allclose(found["attention"], wanted["attention"], atol=1e-4)
    assert len(metadata_of(path)["patch_boxes"]) == wanted["attention"].shape[-1]


@pytest.mark.slow
def test_an_operation_that_the_format_lacks_leaves_no_file(tmp_path):
    # Above 1024 labels the head is a loop.
    model = small_classifier(num_labels=1025)
    with pytest.raises(ValueError, match="This model cannot be expressed in litert: "):
        export_classifier(model, tmp_path / "a.tflite", "litert")
    assert list(tmp_path.iterdir()) == []


# === Metadata ===


@pytest.mark.parametrize("format", FORMATS)
def test_metadata(format, exported):
    found = metadata_of(exported(format))
    assert "centred on black" in found.pop("image_preparation")
    assert found.pop("patch_order") == (
        "level by level, fine to coarse; each level row by row from the upper left"
    )
    assert found == METADATA


def test_the_images_are_prepared_as_the_metadata_say(folder):
    # "resized to image_size by Pillow's BILINEAR ('pad': keeping it, centred on black)"
    image = Image.open(folder / "images" / "6.png", formats=["PNG"])
    assert image.size == (26, 32)
    canvas = Image.new("RGB", (32, 32))
    canvas.paste(image.resize((26, 32), Image.Resampling.BILINEAR), (3, 0))
    np.testing.assert_array_equal(canvas, read_image(folder / "images" / "6.png", (32, 32), "pad"))


# === The page about it ===

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "howto" / "export.md"
WITHOUT_THE_PACKAGE = """
import sys
sys.modules.update(dict.fromkeys(["keras_patchpu", "keras", "tensorflow", "tf2onnx"]))
exec(compile(sys.stdin.read(), "consumer", "exec"))
"""


def block_with(text):
    (block,) = [block for block in blocks(PAGE.read_text(), "python") if text in block]
    return block


def test_the_script_of_the_page_runs_without_the_package(exported, model, folder, tmp_path):
    pytest.importorskip("onnxruntime")
    shutil.copy(exported("onnx"), tmp_path / "photos.onnx")
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype("uint8")
    # EXIF: turned by a quarter.
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "photo.jpg", exif=exif)
    script = block_with("onnxruntime.InferenceSession")
    assert len([line for line in script.splitlines() if line]) <= 15
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE],
        input=script,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    # (The page stretches; how to pad is another block.)
    scores = model.explain(read_image(tmp_path / "photo.jpg", (32, 32))[None], ["probabilities"])
    wanted = [
        f"{name}: {score:.3f}{' *' if score >= threshold else ''}"
        for name, score, threshold in zip(NAMES, scores["probabilities"][0], THRESHOLDS)
    ]
    assert process.stdout.splitlines() == wanted
    assert 0 < sum(line.endswith(" *") for line in wanted) < 3


@pytest.mark.parametrize("size", [(50, 40), (33, 64), (31, 7), (5, 200)])
def test_the_page_pads_as_read_image(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype("uint8")
    names = {"Image": Image}
    exec(block_with("def padded"), names)
    found = np.asarray(names["padded"](Image.fromarray(image), 32, 48))
    np.testing.assert_array_equal(found, fit_image(image, (32, 48), "pad"))


def test_the_page_draws_the_heat_of_fig_3():
    extractor = small_classifier().patch_extractor
    boxes = extractor.grid((33, 47)).boxes
    attention = np.random.default_rng(0).dirichlet(np.ones(len(boxes))).astype("float32")
    names = {"np": np}
    exec(block_with("def heat_map").split("\n\n\n")[0], names)
    found = names["heat_map"](attention, boxes.tolist(), (33, 47))
    wanted = attention_heatmap(attention, boxes, (33, 47), fill="same")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


# === Errors ===


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format", "tflite"], "Expected `format` to be one of ['onnx', 'tf_saved_model', 'li"),
        (["--output", "model.bin"], "Expected the output for onnx to end with .onnx. Received: m"),
        (["--output", "no/m.onnx"], "There is no folder no to write m.onnx into"),
        (["--output", "there.onnx"], "there.onnx is there already. Give another path, or --ov"),
        (
            ["--output", "images", "--format", "tf_saved_model", "--overwrite"],
            "images is no SavedModel, and so is not replaced by one",
        ),
        (["--output", "full.onnx", "--overwrite"], "full.onnx is a folder"),
    ],
)
def test_errors(arguments, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "full.onnx"):
        (tmp_path / name).mkdir()
    (tmp_path / "there.onnx").write_text("mine")
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(name)
    arguments = ["--output", "m.onnx", *arguments] if "--output" not in arguments else arguments
    before = sorted(tmp_path.rglob("*"))
    assert run(folder, *arguments) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("patchpu export: error: ") and message in errors
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_no_model(tmp_path, capsys):
    assert run(tmp_path / "none.keras") == 2
    assert "There is no model" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["onnx", "tf2onnx"])
def test_a_missing_package_is_named_with_its_extra(missing, folder, monkeypatch, capsys):
    for name in ("onnx", "tf2onnx"):
        pytest.importorskip(name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert run(folder, "--output", folder / "m.onnx") == 2
    wanted = f"needs {missing}: pip install 'keras_patchpu[export]'"
    assert wanted in capsys.readouterr().err
    check_export(folder / "m.tflite", "litert")  # needs none of them


def test_another_backend_is_told_to_change(folder, monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert run(folder, "--format", "litert", "--output", folder / "m.tflite") == 2
    errors = capsys.readouterr().err
    assert "Export needs the TensorFlow backend of Keras: set the environment variable" in errors
    assert "KERAS_BACKEND=tensorflow" in errors and "Received: jax" in errors


def test_refuses_what_is_no_classifier(tmp_path):
    pytest.importorskip("tf2onnx")
    with pytest.raises(
        ValueError,
        match="Expected `model` to be a PatchClassifier, BackboneClassifier or ResNetClass",
    ):
        export_classifier(keras.Sequential(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_resnet_has_no_attention(tmp_path):
    model = ResNetClassifier(2, (32, 32), width=0.05)
    with pytest.raises(ValueError, match="Expected no `attention`: a ResNetClassifier has none"):
        export_classifier(model, tmp_path / "a.tflite", "litert", attention=True)


def test_a_file_of_other_scores_is_not_kept(exported, model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    source = exported("onnx")
    monkeypatch.setattr(MODULE, "_export", lambda graph, model, path, f: shutil.copy(source, path))
    path = tmp_path / "a.onnx"
    difference = export_classifier(model, path, attention=True)
    assert 0 < difference < 1e-5
    other = type(model).from_config(model.get_config())
    message = "The onnx file gives other scores than Keras, by up to 0"
    with pytest.raises(ValueError, match=message):
        export_classifier(other, path, attention=True, overwrite=True)
    assert path.exists() and list(tmp_path.iterdir()) == [path]


def test_damaged_weights_are_seen(model, tmp_path):
    damaged = type(model).from_config(model.get_config())
    damaged.shared_softmax_head.kernel.assign(np.full((8, 3), np.nan))
    with pytest.raises(ValueError, match="predicts NaN or infinity. Its weights are damaged"):
        export_classifier(damaged, tmp_path / "a.tflite", "litert")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["litert", "tf_saved_model"])
def test_what_was_there_stays_if_the_export_fails(format, model, tmp_path, monkeypatch):
    path = tmp_path / FILES[format]
    if format == "litert":
        path.write_text("old")
    else:
        path.mkdir()
        (path / "saved_model.pb").write_text("old")
    before = sorted(tmp_path.rglob("*"))

    def fail(self, path, **kwargs):
        (path.mkdir if format == "tf_saved_model" else path.touch)()
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(keras.Model, "export", fail)
    message = f"This model cannot be expressed in {format}: no such operation"
    with pytest.raises(ValueError, match=message):
        export_classifier(model, path, format, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_saved_model_is_replaced_as_a_whole(model, tmp_path, monkeypatch):
    path = tmp_path / "served"
    path.mkdir()
    for name in ("saved_model.pb", "left over"):
        (path / name).write_text("old")

    def write(self, path, **kwargs):
        path.mkdir()
        (path / "saved_model.pb").write_text("new")

    monkeypatch.setattr(keras.Model, "export", write)
    monkeypatch.setattr(MODULE, "largest_difference", lambda *arguments: None)
    assert export_classifier(model, path, "tf_saved_model", overwrite=True) is None
    found = sorted(str(part.relative_to(tmp_path)) for part in tmp_path.rglob("*"))
    assert found == [
        "served",
        "served/assets.extra",
        "served/assets.extra/metadata.json",
        "served/saved_model.pb",
    ]
    assert (path / "saved_model.pb").read_text() == "new"

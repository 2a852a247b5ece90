"""Model files that are damaged, or made by somebody who means harm."""

import copy
import json
import pickle
import random
import struct
import zipfile

import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state
from small import save_as_run, small_backbone_classifier, small_classifier, small_images

from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import PatchClassifier, ResNetClassifier, load_classifier
from keras_patchpu.optimizers import Lamb
from keras_patchpu.utils.validation import FileError

pytestmark = pytest.mark.usefixtures("few_blocks")

NAMES = ("cat", "dog", "owl")


@keras.saving.register_keras_serializable(package="test_load_classifier")
def own_loss(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder with a compiled model."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    model = small_classifier(label_names=NAMES)
    model.compile(Lamb(1e-3), WeakNegative(), metrics=["binary_accuracy"])
    save_as_run(model, folder)
    return folder


@pytest.fixture(scope="module")
def parts(folder):
    """The files in the model's archive."""
    with zipfile.ZipFile(folder / "last" / "model.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def unsafe_keras():
    """Keras after a `keras.config.enable_unsafe_deserialization()`, for which it has no undo."""
    before = global_state.get_global_attribute("safe_mode_saving")
    keras.config.enable_unsafe_deserialization()
    yield
    global_state.set_global_attribute("safe_mode_saving", before)


def packed(path, parts, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def configured(path, parts, change):
    """The model with a configuration that `change` has changed in place, or returned anew."""
    config = json.loads(parts["config.json"])
    config = change(config) or config
    return packed(path, {**parts, "config.json": json.dumps(config)})


def message(path, **options):
    with pytest.raises(FileError) as error:
        load_classifier(path, **options)
    text = str(error.value)
    assert str(path) in text and len(text) < 1000 and "\n" not in text
    return text


# === What is loaded ===


def test_loads_what_was_saved(folder):
    model = load_classifier(folder, label_names=list(NAMES), kinds=PatchClassifier)
    assert type(model) is PatchClassifier and model.label_names == NAMES
    assert isinstance(model.optimizer, Lamb) and isinstance(model.loss, WeakNegative)
    saved = keras.saving.load_model(folder / "last" / "model.keras", safe_mode=True)
    for own, other in zip(model.weights, saved.weights, strict=True):
        np.testing.assert_array_equal(own, other)
    assert not load_classifier(folder / "last" / "model.keras", compile=False).compiled


@pytest.mark.parametrize("loss", ["registered", "class", "function"])
def test_loads_what_it_was_compiled_with(loss, tmp_path):
    model = small_classifier(
        codebook_initializer=keras.initializers.Constant(np.full((3, 8), 0.5)),
        dtype="mixed_float16" if loss == "class" else "float32",
    )
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    model.compile(
        keras.optimizers.Adam(schedule),
        {
            "registered": own_loss,
            "class": keras.losses.BinaryCrossentropy(),
            "function": keras.losses.binary_crossentropy,
        }[loss],
        metrics=[keras.metrics.BinaryAccuracy(), keras.metrics.mean_squared_error],
    )
    model.save(tmp_path / "model.keras")
    found = load_classifier(tmp_path / "model.keras")
    images = small_images(2)
    scores = [each.predict(images, verbose=0) for each in (found, model)]
    np.testing.assert_array_equal(*scores)
    assert type(found.optimizer) is type(model.optimizer)
    assert found.loss is own_loss or loss != "registered"


# === Code ===


def test_a_lambda_layer_does_not_run(tmp_path, unsafe_keras):
    flag = str(tmp_path / "ran")
    layer = keras.layers.Lambda(lambda x: (open(flag, "w").close(), x)[1])
    path = tmp_path / "lambda.keras"
    keras.Sequential([keras.Input((4,)), layer]).save(path)
    (tmp_path / "ran").unlink()
    text = message(path)
    assert "contains code (a Lambda layer, or a lambda) and is not loaded" in text
    assert not (tmp_path / "ran").exists()
    # It would have run: what the user switched on wins over Keras's argument.
    keras.saving.load_model(path, safe_mode=True)
    assert (tmp_path / "ran").exists()


def made(module, name, config=None, **more):
    return {"module": module, "class_name": name, "config": config or {}, **more}


LAMBDA = made("keras.layers", "Lambda", registered_name=None)
HOSTILE = [
    made("os", "system"),
    made("functools", "partial"),
    made("builtins", "exec"),
    made("os", "function", "system", registered_name="system"),
    made("keras.utils", "function", "get_file", registered_name="get_file"),
    made("keras.datasets.mnist", "function", "load_data", registered_name="load_data"),
    made("keras.layers", "TFSMLayer", {"filepath": "/etc"}),
    made("keras.layers", "StringLookup", {"vocabulary": "/etc/hostname"}),
    made("keras.layers", "TextVectorization", {"vocabulary": "/etc/hostname"}),
    made("keras.layers", "TorchModuleWrapper"),
    made("keras", "layers.TFSMLayer", {"filepath": "/etc"}),
    made("keras.initializers", "deserialize.x"),
    made("keras.src.layers.preprocessing.string_lookup", "StringLookup"),
    made(None, "Dense"),
    made("keras.optimizers", "__bytes__", registered_name="keras_patchpu>Lamb"),
    {"class_name": ["os", "system"], "config": {}},
]
CODE = [
    LAMBDA,
    made("keras", "layers.Lambda"),
    made("keras.src.layers.core.lambda_layer", "Lambda"),
    {"class_name": "__lambda__", "config": {"value": ["4wEA", None, None]}},
    made("keras", "__lambda__", registered_name="keras_patchpu>PatchClassifier"),
]


@pytest.mark.parametrize("place", ["compile", "initializer", "deep"])
@pytest.mark.parametrize("thing", [*HOSTILE, *CODE], ids=lambda thing: str(thing)[11:50])
def test_a_configuration_names_nothing_else(place, thing, parts, tmp_path, unsafe_keras):
    def change(config):
        if place == "compile":
            config["compile_config"]["metrics"] = [thing]
        elif place == "initializer":
            config["config"]["codebook_initializer"] = thing
        else:
            config["compile_config"]["optimizer"]["config"]["learning_rate"] = {"a": [[thing]]}

    text = message(configured(tmp_path / "model.keras", parts, change), compile=False)
    if thing in CODE:
        assert "contains code" in text
    else:
        assert "which is no part of a classifier, and is not loaded" in text


@pytest.fixture(scope="module")
def parts_of_backbone_classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    small_backbone_classifier().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("thing", [*HOSTILE, *CODE], ids=lambda thing: str(thing)[11:50])
def test_nor_does_a_backbone(thing, parts_of_backbone_classifier, tmp_path, unsafe_keras):
    """In the place of one of its layers, and in that of the whole."""

    def change_layer(config):
        config["config"]["backbone"]["config"]["layers"][1] |= thing

    def change_whole(config):
        config["config"]["backbone"] = thing

    for change in (change_layer, change_whole):
        path = configured(tmp_path / "model.keras", parts_of_backbone_classifier, change)
        text = message(path, compile=False)
        if thing in CODE:
            assert "contains code" in text
        else:
            assert "which is no part of a classifier, and is not loaded" in text


def test_huge_layers_of_a_backbone_are_refused(parts_of_backbone_classifier, tmp_path):
    def change(config):
        (cut,) = [
            layer
            for layer in config["config"]["backbone"]["config"]["layers"]
            if layer["name"] == "cut"
        ]
        cut["config"]["kernel_size"] = [20_000, 20_000]
        cut["config"]["padding"] = "same"

    path = configured(tmp_path / "model.keras", parts_of_backbone_classifier, change)
    assert "declares weights of 28,800,000," in message(path)


@pytest.mark.parametrize("thing", [*HOSTILE, *CODE], ids=lambda thing: str(thing)[11:50])
def test_nor_is_one_itself(thing, parts, tmp_path, unsafe_keras):
    path = configured(tmp_path / "model.keras", parts, lambda config: copy.deepcopy(thing))
    assert "contains code" in message(path) if thing in CODE else "Expected" in message(path)


def test_other_formats_are_not_loaded(tmp_path, folder):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(tmp_path / "model.h5")  # such a file can hold code, too
    assert "to end with .keras" in message(tmp_path / "model.h5")
    (tmp_path / "model.keras").write_bytes((tmp_path / "model.h5").read_bytes())
    assert "is an HDF5 file, not a .keras archive" in message(tmp_path / "model.keras")
    # An archive behind an HDF5 head would be read as HDF5 if its name asked for it.
    (tmp_path / "both.h5").write_bytes((folder / "last" / "model.keras").read_bytes())
    assert "to end with .keras" in message(tmp_path / "both.h5")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize(
    "content", [pickle.dumps(Bomb()), b"", b"text", b"\x80\x04" * 100], ids=["pickle", "", "t", "b"]
)
def test_what_is_no_archive(content, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    assert f"is not a Keras model file: {len(content)} bytes that begin with b" in message(path)


# === Damage ===


def test_cut_off(folder, tmp_path):
    whole = (folder / "last" / "model.keras").read_bytes()
    path = tmp_path / "model.keras"
    for length in (4, 30, 100, 3000, len(whole) // 2, len(whole) - 100, len(whole) - 22):
        path.write_bytes(whole[:length])
        text = message(path)
        assert f"is cut off or damaged: {length:,} bytes. Copy it again" in text
    for length in (len(whole) - 21, len(whole) - 1):  # inside the last record
        path.write_bytes(whole[:length])
        assert "is cut off or damaged" in message(path)


def test_a_byte_changed_anywhere_in_the_weights(folder, tmp_path):
    whole = (folder / "last" / "model.keras").read_bytes()
    with zipfile.ZipFile(folder / "last" / "model.keras") as archive:
        start = archive.getinfo("model.weights.h5").header_offset + 100
    path = tmp_path / "model.keras"
    for place in np.linspace(start, len(whole) - 500, 5).astype(int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "model.weights.h5 in it has another checksum" in message(path)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"config.json": None}, "expected config.json and model.weights.h5 in it, once each"),
        ({"model.weights.h5": None}, "expected config.json and model.weights.h5"),
        ({"model.weights.h5": b"no HDF5"}, "weights, or its loss or optimizer, do not fit"),
        ({"config.json": b"{"}, "is cut off or damaged"),
        ({"config.json": b"\xff"}, "is cut off or damaged"),
        ({"config.json": b"[" * 100_000}, "is cut off or damaged"),
        (
            {"config.json": b"[]"},
            "to hold a PatchClassifier or BackboneClassifier or ResNetClassifier. Received: None",
        ),
        (
            {"config.json": b'"a"'},
            "to hold a PatchClassifier or BackboneClassifier or ResNetClassifier. Received: None",
        ),
    ],
)
def test_parts_that_are_missing_or_none(changes, expected, parts, tmp_path):
    changed = {name: changes.get(name, content) for name, content in parts.items()}
    changed = {name: content for name, content in changed.items() if content is not None}
    assert expected in message(packed(tmp_path / "model.keras", changed))


def test_weights_of_another_model(parts, tmp_path):
    small_classifier(features=12).save(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        other = archive.read("model.weights.h5")
    path = packed(tmp_path / "model.keras", {**parts, "model.weights.h5": other})
    assert "its weights, or its loss or optimizer, do not fit its own" in message(path)


@pytest.mark.parametrize(
    "name, value", [("num_labels", -1), ("image_size", "a"), ("features", None)]
)
def test_settings_that_no_model_has(name, value, parts, tmp_path):
    path = configured(
        tmp_path / "model.keras", parts, lambda config: config["config"].update({name: value})
    )
    assert "its configuration is not one that this version knows" in message(path)


# === Others ===


@pytest.mark.parametrize(
    "settings, expected",
    [
        # The embedder's 68,642 + 41 * 8; a label has 8 numbers in the codebook and 8 in the head.
        (
            {"num_labels": 10**9, "label_names": None},
            f"weights of {4 * (68_970 + 110 + 16 * 10**9):,} bytes",
        ),
        # A hidden unit has 8 weights, a bias and 8 weights more.
        ({"hidden_units": 10**12}, f"weights of {4 * (68_970 + 56 + 17 * 10**12):,} bytes"),
        ({"image_size": [10**6, 10**6]}, "images of 1000000 x 1000000 pixels"),
    ],
)
def test_huge_sizes_are_refused_before_memory_is_taken(
    settings, expected, parts, tmp_path, all_blocks
):
    def change(config):
        config["config"].update(settings)

    assert f"declares {expected}" in message(configured(tmp_path / "huge.keras", parts, change))


def test_sizes_are_looked_at_without_a_trace(folder):
    """Neither in the seeds that Keras draws, nor in variables that wait for their values."""
    states = []
    for load in (keras.saving.load_model, load_classifier):
        random.seed(0)
        load(folder / "last" / "model.keras")
        states.append(random.getstate())
    assert states[0] == states[1]
    assert not global_state.get_global_attribute("uninitialized_variables")


def test_other_models(tmp_path, folder):
    keras.Sequential([keras.Input((2,))]).save(tmp_path / "other.keras")
    text = message(tmp_path / "other.keras")
    assert (
        "to hold a PatchClassifier or BackboneClassifier or ResNetClassifier. Received: Sequential"
        in text
    )
    text = message(folder / "last" / "model.keras", kinds=ResNetClassifier)
    assert "to hold a ResNetClassifier. Received: PatchClassifier" in text


def test_other_labels(folder, tmp_path):
    path = folder / "last" / "model.keras"
    text = message(path, compile=False, label_names=["cat", "owl", "dog"])
    assert "is of other labels. Expected: 3, cat, owl, dog. Received: 3, cat, dog, owl" in text
    assert "Expected: 12, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 and 2 more. Received" in message(
        path, compile=False, label_names=[f"a{index}" for index in range(12)]
    )
    path = tmp_path / "nameless.keras"
    small_classifier().save(path)
    assert load_classifier(path, label_names=NAMES).label_names is None
    assert "Expected: 1, cat. Received: 3 without names" in message(path, label_names=["cat"])


def test_missing_files(tmp_path):
    for path, expected in [
        (tmp_path, "holds no last/model.keras: it is not a run folder"),
        (tmp_path / "none.keras", "There is no model"),
    ]:
        assert expected in message(path)


# === Archives that are bombs ===


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_with_more_bytes_than_the_limit(compression, parts, tmp_path):
    path = packed(tmp_path / "model.keras", {**parts, "zeros": bytes(5_000_000)}, compression)
    text = message(path, max_bytes=5_000_000)
    assert "unpacked, more than the limit of 5,000,000" in text


def test_the_limit_is_2_gib(parts, tmp_path):
    path = packed(tmp_path / "model.keras", parts)
    content = bytearray(path.read_bytes())
    # The size unpacked of the first file, in the directory at the archive's end.
    place = content.rindex(b"PK\x01\x02", 0, content.index(b"PK\x01\x02") + 4) + 24
    content[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    assert "more than the limit of 2,147,483,648" in message(path)


def test_compression_that_python_unpacks_whole(parts, tmp_path):
    path = packed(tmp_path / "model.keras", parts, zipfile.ZIP_LZMA)
    assert "compressed in a way that Keras does not use" in message(path)


def test_files_that_would_leave_the_folder(parts, tmp_path):
    (tmp_path / "in").mkdir()
    outside = {"../../out.txt": b"x", f"{tmp_path}/absolute.txt": b"x"}
    path = packed(tmp_path / "in" / "model.keras", {**parts, **outside})
    load_classifier(path)  # Keras unpacks what it does not know, inside a folder of its own
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "model.keras"]


def test_the_same_name_twice(parts, tmp_path):
    path = packed(tmp_path / "model.keras", parts)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", b"{}")
    assert "once each" in message(path)

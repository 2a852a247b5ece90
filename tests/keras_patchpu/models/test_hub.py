"""Models that are saved to and loaded from the Hugging Face Hub; its network is a folder here."""

import json
import sys

import keras
import numpy as np
import pytest
from hub import Hub
from PIL import Image
from small import calibrated_classifier, small_classifier, small_images

from keras_patchpu.models import PatchClassifier, load_classifier
from keras_patchpu.models.load_classifier import model_digest, model_file
from keras_patchpu.utils.validation import FileError
from patchpu.__main__ import main

pytestmark = pytest.mark.usefixtures("few_blocks")

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return Hub(tmp_path, monkeypatch)


def folder_of(hub, name="user/pets"):
    return hub.repositories / name


def refused(address):
    with pytest.raises(FileError) as error:
        load_classifier(address)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_was_saved_is_loaded_by_keras_and_by_the_safe_loader(hub):
    model = calibrated_classifier(label_names=NAMES)
    model.thresholds = [0.5, 0.25, 0.125]
    model.compile("sgd", "binary_crossentropy")
    expected = model.explain(small_images())["probabilities"]
    model.save("hf://user/pets")
    (folder_of(hub) / "evil.py").write_text("raise SystemExit")
    for load in (load_classifier, keras.saving.load_model):
        again = load("hf://user/pets")
        assert type(again) is PatchClassifier and again.label_names == NAMES
        assert again.thresholds == (0.5, 0.25, 0.125) and again.compiled
        found = again.explain(small_images())["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        # Of the repository the safe loader asks for the model's files alone.
        assert (hub.cache / "user/pets/evil.py").exists() == (load is keras.saving.load_model)


def test_a_folder_of_the_same_parts(hub, tmp_path):
    small_classifier().save("hf://user/pets")
    path = model_file("hf://user/pets")
    assert path == hub.cache / "user/pets" == model_file(path)
    digest = model_digest(path)
    assert load_classifier(path).num_labels == 3
    (path / "config.json").write_bytes((path / "config.json").read_bytes() + b" ")
    assert model_digest(path) != digest
    (path / "model.weights.h5").unlink()
    assert "nor does it hold config.json and model.weights.h5" in refused(path).lower()


def test_code_in_a_repository_is_not_loaded(hub, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    model.save("hf://user/evil")
    assert "contains code (a Lambda layer" in refused("hf://user/evil")


def test_other_models_and_damage_are_named(hub):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save("hf://user/dense")
    assert "to hold a PatchClassifier or BackboneClassifier or ResNetClassifier" in refused(
        "hf://user/dense"
    )
    small_classifier().save("hf://user/pets")
    weights = folder_of(hub) / "model.weights.h5"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert "cannot be loaded: its weights" in refused("hf://user/pets")
    weights.write_bytes(whole)
    config = json.loads((folder_of(hub) / "config.json").read_text())
    (folder_of(hub) / "config.json").write_text(json.dumps(config)[:-5])
    assert "config.json is no JSON" in refused("hf://user/pets")
    with pytest.raises(FileError, match="more than the limit of 10,000"):
        load_classifier("hf://user/pets", max_bytes=10_000)


def test_predict_downloads_once_and_thresholds_want_a_file(hub, tmp_path, capsys):
    small_classifier(label_names=NAMES).save("hf://user/pets")
    Image.fromarray(small_images(1)[0]).save(tmp_path / "a.png")
    output = tmp_path / "tags.csv"
    main(["predict", "hf://user/pets", str(tmp_path / "a.png"), "--output", str(output)])
    header, row = output.read_text().splitlines()
    assert header == "image,tags,error,score:cat,score:dog,score:owl"
    assert sorted(row.split(",")[1].split(";")) == ["cat", "dog", "owl"]
    assert hub.downloads == ["user/pets"]
    with pytest.raises(SystemExit) as stopped:
        main(["thresholds", "hf://user/pets", "table.csv"])
    assert stopped.value.code == 2
    assert 'load_classifier("hf://user/pets").save("model.keras")' in capsys.readouterr().err


@pytest.mark.parametrize("address", ["hf://", "hf://pets", "hf://a/b/c", "hf:///b", "hf://a/"])
def test_what_is_no_address(address):
    assert "Expected an address hf://user/name" in refused(address)


def test_a_download_that_fails(hub):
    message = refused("hf://user/nothing")
    assert message == (
        "hf://user/nothing cannot be downloaded: ConnectionError: 404 Client Error. There is no "
        "user/nothing"
    )


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "keras_patchpu[hub]"' in refused("hf://user/pets")

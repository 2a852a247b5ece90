"""The page of `patchpu demo` without a browser: its list of tags, its examples, other models."""

import numpy as np
import pytest
from PIL import Image
from small import calibrated_classifier

from keras_patchpu.datasets import load_digit_scenes
from keras_patchpu.tagging import Explainer, Tags
from patchpu.demo.examples import digit_examples, image_examples
from patchpu.prediction.rows import csv_text

NAMES = ["cat", "<i>dog</i>", "owl"]


def test_csv_has_the_columns_of_predict():
    found = Tags("a,b.png", scores=np.array([0.25, 1 / 3], "float32"), size=(5, 6))
    text = csv_text(found, [1], ("cat", "owl"))
    assert text == 'image,tags,error,score:cat,score:owl\n"a,b.png",owl,,0.250000,0.333333\n'


def test_digit_scenes_are_those_of_the_run(tmp_path):
    digits = [str(digit) for digit in range(10)]
    model = calibrated_classifier(label_names=digits, num_labels=10)
    default = digit_examples(model, tmp_path, count=2)
    (tmp_path / "config.yaml").write_text("dataset: digits\nmax_digits: 1\ndifficulty: 1.0\n")
    own = digit_examples(model, tmp_path, count=2)
    assert [name for name, _, _ in own] == ["scene 1", "scene 2"]
    expected = load_digit_scenes(2, "validation", 32, max_digits=1, difficulty=1.0)
    np.testing.assert_array_equal([image for _, image, _ in own], expected.images)
    expected = load_digit_scenes(2, "validation", 32)
    np.testing.assert_array_equal([image for _, image, _ in default], expected.images)
    (tmp_path / "config.yaml").write_text("dataset: voc\n")
    assert digit_examples(model, tmp_path) == []
    assert digit_examples(calibrated_classifier(label_names=NAMES), tmp_path / "none") == []


def test_examples_of_files(folder, capsys):
    files = [str(folder / "3.png"), str(folder / "notes.txt"), str(folder / "2.png")]
    examples = image_examples(files, max_pixels=90 * 70)
    assert [(name, source) for name, source, _ in examples] == [(files[0],) * 2, (files[2],) * 2]
    np.testing.assert_array_equal(examples[1][2], np.asarray(Image.open(files[2])))
    assert "left out of the examples: " + files[1] in capsys.readouterr().err
    with pytest.raises(ValueError, match="None of the --examples can be read"):
        image_examples(files[:1], max_pixels=90 * 70 - 1)


def test_the_list_of_tags_by_hand(gradio):
    from patchpu.demo.page import tag_list

    scores = np.array([0.5, 0.25, 0.875], "float32")
    assert tag_list(scores, [1], NAMES) == {
        "label": "Tags: <i>dog</i>",
        "choices": [("✓ <i>dog</i> · 25.0 %", 1), ("owl · 87.5 %", 2), ("cat · 50.0 %", 0)],
    }
    assert tag_list(scores, [2, 0], NAMES)["label"] == "Tags: owl, cat"
    assert tag_list(scores, [], NAMES)["label"] == "No tag is given"


def components(page, kind):
    return [item["props"] for item in page.get_config_file()["components"] if item["type"] == kind]


def test_sliders_start_from_the_models_thresholds(gradio, model):
    from patchpu.demo.page import make_page

    own = type(model).from_config({**model.get_config(), "thresholds": [0.25, 0.5, 1.0]})
    page = make_page(Explainer(own))
    sliders = components(page, "slider")
    assert [(item["label"], item["value"]) for item in sliders] == list(zip(NAMES, [0.25, 0.5, 1]))
    (rule,) = [item for item in components(page, "radio") if item["elem_id"] == "rule"]
    assert rule["value"] == "By the model's thresholds"


def test_one_slider_for_many_labels_and_no_csv_of_a_semicolon(gradio):
    from patchpu.demo.page import make_page

    names = [f"label {number}" for number in range(12)] + ["a;b"]
    page = make_page(Explainer(calibrated_classifier(num_labels=13, label_names=names)))
    (slider,) = components(page, "slider")
    assert (slider["label"], slider["value"]) == ("A tag is given from", 0.5)
    (download,) = components(page, "downloadbutton")
    assert not download["visible"]

"""The command `patchpu card`: what it says, what it says it does not know, what it refuses."""

import copy
import json
import pathlib
import re
import sys

import huggingface_hub
import keras
import numpy as np
import pytest
import yaml
from backend import numpy
from code_blocks import blocks
from hub import Hub
from PIL import Image
from small import small_classifier, small_images
from tiny_runs import tiny

from keras_patchpu.losses import WeakNegative
from keras_patchpu.models import BackboneClassifier, ResNetClassifier
from patchpu.card.model_card import model_card
from patchpu.card.texts import CITATION
from patchpu.commands.card import main

ROOT = pathlib.Path(__file__).parents[3]
NAMES = ("cat", "do|g\n# x", "<b>owl")
PRECISIONS = {1: (0.9, 0.5, 0.25), 2: (0.8, 0.5, 0.5), 3: (0.7, 0.5, 0.75)}


def report_of(config, precisions):
    """The report of a run with this average precision of each label."""
    mean = sum(precisions) / len(precisions)
    scores = {"precision": 0.75, "recall": 0.375, "f1": 0.5}
    return {
        "val_mAP": mean,
        "best_epoch": {"epoch": 1, "val_mAP": mean + 0.01},
        "epochs": config.epochs,
        "metrics": {
            "mAP": mean,
            "micro": scores,
            "macro": {**scores, "f1": 0.25},
            "mean_predicted_labels": 0.5,
            "mean_true_labels": 1.25,
            "per_label": [
                {"label": name, "positives": 10 + index, "average_precision": value}
                for index, (name, value) in enumerate(zip(NAMES, precisions))
            ],
        },
        "observed": None,
        "localization": {"peak_in_box": 0.5 + mean / 10, "attention_in_box": 0.25},
        "settings": config.settings(),
    }


def observed_report_of(config):
    observed = {"recall_at": {"1": 0.5, "3": 0.75}, "mean_reciprocal_rank": 0.625}
    unknown = {"val_mAP": None, "metrics": None, "localization": None}
    return {**report_of(config, PRECISIONS[1]), **unknown, "observed": observed}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Path of a model with thresholds."""
    path = tmp_path_factory.mktemp("model") / "pets.keras"
    model = small_classifier(label_names=NAMES)
    model.thresholds = [0.5, 0.125, 1.0]
    model.compile("sgd", WeakNegative())
    model.save(path)
    return path


@pytest.fixture
def run(model, tmp_path):
    """Function that writes the folder of a finished run and returns its path as a string."""

    def write(seed=1, report=None, **settings):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        config = tiny(folder, seed=seed, **settings)
        report = report(config) if report else report_of(config, PRECISIONS[seed])
        (folder / "config.yaml").write_text(config.to_yaml())
        (folder / "report.json").write_text(json.dumps(report))
        environment = {"backend": "jax", "versions": {"keras": "3.99", "jax": "0.99"}}
        (folder / "environment.json").write_text(json.dumps({**environment, "commit": "abc"}))
        (folder / "last").mkdir()
        (folder / "last" / "model.keras").write_bytes(model.read_bytes())
        return str(folder)

    return write


def card_of(tmp_path, *arguments):
    """The head and the text of a card."""
    output = tmp_path / "README.md"
    main([*map(str, arguments), "--output", str(output), "--overwrite"])
    _, head, text = output.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("patchpu card: error: ")
    return error


def table_of(text, section):
    """Cells of the table in a section."""
    lines = text.split(f"## {section}")[1].split("\n## ")[0].splitlines()
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if line.startswith("|")
    ]


def test_one_run(run, tmp_path):
    head, text = card_of(tmp_path, run(), "--name", "Pets", "--license", "cc-by-4.0")
    assert head["library_name"] == "keras" and head["license"] == "cc-by-4.0"
    assert head["pipeline_tag"] == "image-classification"
    (index,) = head["model-index"]
    (result,) = index["results"]
    assert index["name"] == "Pets" and result["dataset"]["type"] == "digit_scenes"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"mean_average_precision": 0.55, "micro_f1": 0.5, "macro_f1": 0.25}
    assert table_of(text, "Labels") == [
        ["label", "validation images", "average precision, %", "threshold"],
        ["---"] * 4,
        ["cat", "10", "90.0", "0.5000"],
        [r"do\|g \# x", "11", "50.0", "0.1250"],
        ["&lt;b&gt;owl", "12", "25.0", "1.0000"],
    ]
    assert table_of(text, "Results")[2:] == [
        ["1", "55.0", "56.0", "50.0", "25.0", "55.5", "25.0"],
    ]
    for said in (
        "# Pets\n",
        "weak negatives, the paper's.",
        "20 training scenes, drawn anew for each seed; 60 validation scenes",
        "- Seeds: 1.",
        "Keras 3.99, backend jax 0.99; commit abc.",
        "predicts 0.50 labels an image, where 1.25 are true: precision 75.0%, recall 37.5%",
        "The licence of the weights is cc-by-4.0.",
    ):
        assert said in text
    assert "- the licence of the weights;" not in text


def test_a_run_of_no_commit(run, tmp_path):
    folder = pathlib.Path(run())
    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**environment, "commit": None}))
    assert "Keras 3.99, backend jax 0.99.\n" in card_of(tmp_path, folder)[1]


def test_several_seeds_give_mean_and_spread(run, tmp_path):
    head, text = card_of(tmp_path, run(2), run(1), run(3))
    # mAP 60, 55 and 65: deviations of 0, 5 and 5 give sqrt(50 / 2) = 5.
    rows = table_of(text, "Results")[2:]
    assert [row[:2] for row in rows] == [
        ["2", "60.0"],
        ["1", "55.0"],
        ["3", "65.0"],
        ["mean ± standard deviation", "60.0 ± 5.0"],
    ]
    assert [row[2] for row in table_of(text, "Labels")[2:]] == [
        "80.0 ± 10.0",
        "50.0 ± 0.0",
        "50.0 ± 25.0",
    ]
    # The index is about the model that is shared, the first one's.
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.6
    assert head["model-index"][0]["name"] == "run-2"
    assert (
        "The model is that of seed 2; 3 seeds were trained." in text and "- Seeds: 2, 1, 3." in text
    )


def test_where_only_some_labels_are_known_no_map_is_told(run, tmp_path):
    config = {"dataset": "table", "table": "/home/somebody/private.csv"}
    head, text = card_of(tmp_path, run(report=observed_report_of, **config))
    assert "model-index" not in head
    assert "cannot be told" in text and "somebody" not in text
    assert table_of(text, "Results")[2:] == [["1", "50.0", "75.0", "62.5"]]
    assert table_of(text, "Labels")[0] == ["label", "threshold"]
    assert "where the images are from" in text and "those that the author's table lists" in text


def test_a_model_alone_says_what_is_not_known(model, tmp_path):
    head, text = card_of(tmp_path, model)
    assert "model-index" not in head and "license" not in head
    assert "# pets\n" in text and "## Results" not in text and "## Data" not in text
    assert "loss `WeakNegative` and the optimizer `SGD`" in text
    assert "how good it is: **not known**" in text
    assert "The licence of the weights is not stated." in text
    for unknown in ("where the images are from", "how many images", "the licence of the weights;"):
        assert unknown in text.split("## Not known")[1]


def test_the_model_of_a_checkpoint_says_how_far_its_run_had_come(model, tmp_path):
    last = tmp_path / "run" / "last"
    last.mkdir(parents=True)
    (last / "model.keras").write_bytes(model.read_bytes())
    (last / "progress.json").write_text('{"epochs": 2}')
    _, text = card_of(tmp_path, last / "model.keras")
    assert "saved by a run after epoch 2." in text


def test_the_package_of_the_hub_reads_it(run, tmp_path):
    card_of(tmp_path, run(), "--name", "Pets: of mine")
    read = huggingface_hub.ModelCard.load(tmp_path / "README.md")
    assert read.data.library_name == "keras" and read.data.model_name == "Pets: of mine"
    results = {result.metric_type: result.metric_value for result in read.data.eval_results}
    assert results["mean_average_precision"] == 0.55


def test_its_code_runs(run, tmp_path, monkeypatch, capsys):
    hub = Hub(tmp_path / "hub", monkeypatch)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(small_images(1)[0]).save("image.jpg")
    model = small_classifier(label_names=NAMES)
    model.save("hf://user/pets")
    _, text = card_of(tmp_path, run(), "--repository", "user/pets")
    (code,) = blocks(text, "python")
    exec(code, {})
    assert hub.downloads == ["user/pets"] and "image.jpg" in capsys.readouterr().out
    _, text = card_of(tmp_path, "hf://user/pets")
    assert (
        "# user/pets\n" in text
        and 'Tagger("hf://user/pets")' in text
        and "with its extra `hub`" in text
    )


def test_the_code_of_a_resnet_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(small_images(1)[0]).save("image.jpg")
    model = ResNetClassifier(2, (32, 32), width=0.0625, label_names=["cat", "dog"])
    model.save("mine.keras")
    text = model_card(model, file="mine.keras")
    assert "its Grad-CAM points at" in text
    (code,) = blocks(text, "python")
    exec(code, {})
    # NumPy 2 writes np.float32(0.5), NumPy 1 writes 0.5; either may be as 1e-05.
    found = re.findall(r"'(?:cat|dog)': (?:np\.float32\()?([\d.e+-]+)", capsys.readouterr().out)
    expected = numpy(
        model(np.array(Image.open("image.jpg"))[None].astype("float32"))["probabilities"][0]
    )
    np.testing.assert_allclose([float(value) for value in found], expected, atol=1e-5)


def test_whose_weights_it_began_with(run, tmp_path):
    for seed, settings, said in (
        (1, {"model": "backbone", "backbone": "vgg16"}, "of `vgg16`; their licence: CC-BY-4.0."),
        (
            2,
            {"model": "resnet", "resnet_weights": "imagenet"},
            "of `resnet50`; their licence: MIT.",
        ),
        (3, {"model": "backbone", "backbone_weights": "none"}, None),
    ):
        _, text = card_of(tmp_path, run(seed, **settings))
        if said is None:
            assert "pretrained weights" not in text
        else:
            assert f"It is made of the pretrained weights {said}" in text


def test_what_a_model_over_a_backbone_is(tmp_path):
    images = keras.Input((32, 32, 3))
    backbone = keras.Model(images, keras.layers.Conv2D(4, 8, 8)(images))
    text = model_card(BackboneClassifier(2, backbone, features=4, hidden_units=4))
    assert "the places of a pretrained network's map pooled by one attention" in text
    assert "tagger = Tagger(" in text and "what its attention points at" in text


def test_what_is_there_is_not_replaced(model, tmp_path, capsys):
    output = tmp_path / "README.md"
    output.write_text("mine")
    assert "--overwrite to replace it" in error_of(capsys, model, "--output", output)
    assert "no folder" in error_of(capsys, model, "--output", tmp_path / "no" / "README.md")
    assert output.read_text() == "mine"


def test_runs_that_do_not_belong_together(run, model, tmp_path, capsys):
    first, again, other = (
        run(1),
        run(2, report=lambda c: report_of(c, PRECISIONS[1])),
        run(3, epochs=3),
    )
    output = ("--output", tmp_path / "README.md")
    assert "epochs: 2 and 3" in error_of(capsys, first, other, *output)
    assert "different seeds. Received: [1, 1]" in error_of(capsys, first, first, *output)
    assert "run folders only" in error_of(capsys, first, model, *output)
    assert not (tmp_path / "README.md").exists()
    report = json.loads(pathlib.Path(again, "report.json").read_text())
    for change, message in [
        (lambda r: r["metrics"]["per_label"][0].update(label="cow"), "is of other labels"),
        (lambda r: r["metrics"].pop("micro"), "damaged, or not of this version: KeyError: 'micro'"),
        (lambda r: r["metrics"].pop("mean_true_labels"), "has no attribute 'mean_true_labels'"),
        (lambda r: r.update(epochs=1), "has not ended"),
        (lambda r: r.pop("settings"), "is damaged: 'settings'"),
    ]:
        changed = copy.deepcopy(report)
        change(changed)
        pathlib.Path(again, "report.json").write_text(json.dumps(changed))
        assert message in error_of(capsys, again, *output)
    pathlib.Path(again, "report.json").write_text("{")
    assert "is damaged" in error_of(capsys, again, *output)
    pathlib.Path(again, "report.json").unlink()
    assert "has not ended: it has no report.json" in error_of(capsys, again, *output)


def test_a_setting_that_an_earlier_version_did_not_have(run, tmp_path):
    first, second = run(1), run(2)
    path = pathlib.Path(second, "report.json")
    report = json.loads(path.read_text())
    del report["settings"]["max_digits"]
    path.write_text(json.dumps(report))
    _, text = card_of(tmp_path, second, first)
    assert "1 to 3 handwritten digits" in text


def test_wrong_options(model, tmp_path, capsys):
    output = ("--output", tmp_path / "README.md")
    message = error_of(capsys, model, "--repository", "pets", *output)
    assert "Expected --repository to be user/name. Received: pets" in message
    assert "Expected --license" in error_of(capsys, model, "--license", "MIT: any", *output)
    assert "There is no model" in error_of(capsys, "nothing.keras", *output)


def test_the_citation_is_the_one_of_the_project():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    assert f"title = {{{cited['title']}}}" in CITATION
    names = [f"{author['family-names']}, {author['given-names']}" for author in cited["authors"]]
    assert f"author = {{{' and '.join(names)}}}" in CITATION
    assert f"booktitle = {{{cited['collection-title']}}}" in CITATION
    assert f"year = {{{cited['year']}}}" in CITATION


@pytest.mark.parametrize("package", ["huggingface_hub", "jinja2"])
def test_without_its_packages_it_says_what_to_install(package, tmp_path, monkeypatch, capsys):
    for module in ("write_card", "model_card"):
        monkeypatch.delitem(sys.modules, f"patchpu.card.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    message = error_of(capsys, "model.keras", "--output", tmp_path / "README.md")
    assert f'needs the package {package}: pip install "keras_patchpu[hub]"' in message

"""The commands on files that are damaged, of other data, or made by somebody who means harm.

What is tested closer to what reads it: models (keras_patchpu/models/test_load_classifier.py),
arrays (callbacks/test_load_array.py), images and tables (datasets).
"""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from small import save_as_run, small_classifier
from tiny_data import write_coco, write_table, write_voc

from keras_patchpu.datasets import load_coco, load_voc
from patchpu.__main__ import main
from patchpu.prediction import predict_files
from patchpu.training.build import make_loss, make_model, make_optimizer
from patchpu.training.config import TrainConfig
from patchpu.training.data import load_data

pytestmark = pytest.mark.usefixtures("few_blocks")

LABELS = ("blue", "green", "red")


def error_of(capsys, *arguments):
    """What a command that ends with code 2 says."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of six images with the labels blue, green and red, and a model of the same."""
    folder = tmp_path_factory.mktemp("data")
    write_table(folder, num_images=6)
    keras.utils.set_random_seed(0)
    save_as_run(small_classifier(label_names=LABELS), folder)
    return folder


# === YAML ===


YAMLS = [
    "epochs: !!python/object/apply:os.system ['touch {flag}']\n",
    "!!python/object/apply:os.system ['touch {flag}']\n",
    "epochs: !!python/object/new:tuple [!!python/object/apply:eval [\"open('{flag}', 'w')\"]]\n",
    "epochs: !!python/name:os.system\n",
]


@pytest.mark.parametrize("text", YAMLS)
@pytest.mark.parametrize("command", ["train", "table1"])
def test_yaml_runs_nothing(command, text, tmp_path, capsys):
    flag, path = tmp_path / "ran", tmp_path / "evil.yaml"
    path.write_text(text.format(flag=flag))
    output = tmp_path / "output"
    assert "python/" in error_of(capsys, command, "--config", path, "--output", output)
    assert not flag.exists() and not output.exists()


@pytest.mark.parametrize("text", [*YAMLS, "{{", "- 1\n", "text", ""])
def test_settings_of_a_run_run_nothing(text, tmp_path, capsys):
    flag, run = tmp_path / "ran", tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(text.format(flag=flag))
    assert "config.yaml" in error_of(capsys, "train", "--resume", "--output", run)
    assert not flag.exists() and [path.name for path in run.iterdir()] == ["config.yaml"]


# === Tables ===


def outside(folder, how):
    """A table in a folder of its own, which names an image outside of it."""
    folder.mkdir()
    (folder.parent / "out").mkdir()
    Image.new("RGB", (40, 40)).save(folder.parent / "out" / "a.png")
    image = {
        "up": "../out/a.png",
        "absolute": str(folder.parent / "out" / "a.png"),
        "link": "link.png",
        "link to a folder": "link/a.png",
    }[how]
    (folder / "link.png").symlink_to("../out/a.png")
    (folder / "link").symlink_to("../out")
    (folder / "tags.csv").write_text(f"image,label\n{image},red\n")
    return folder / "tags.csv"


@pytest.mark.parametrize("how", ["up", "absolute", "link", "link to a folder"])
def test_tables_stay_inside_their_folder(how, data, tmp_path, capsys):
    table = outside(tmp_path / "table", how)
    for arguments in [
        ("train", "--table", table, "--output", tmp_path / "run"),
        ("train", "--table", data / "tags.csv", "--validation-table", table)
        + ("--output", tmp_path / "run"),
        ("inspect", table, "--picture", tmp_path / "samples.png"),
        ("thresholds", data, table),
        ("predict", data, table, "--output", tmp_path / "tags.jsonl"),
    ]:
        text = error_of(capsys, *arguments)
        assert "row 2: expected a path " in text and "folder of the" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "table"]


def test_where_it_is_allowed_they_need_not(data, tmp_path):
    table = outside(tmp_path / "table", "link")
    config = TrainConfig(
        dataset="table",
        table=str(data / "tags.csv"),
        validation_table=str(table),
        allow_outside=True,
        output=str(tmp_path / "run"),
    )
    assert load_data(config).validation.names == ["link.png"]


# === Published data sets ===


def test_names_of_voc_that_lead_out_of_its_folder(tmp_path):
    devkit = write_voc(tmp_path)
    root = devkit / "VOC2012"
    shutil.copyfile(root / "Annotations" / "2008_000001.xml", tmp_path / "out.xml")
    shutil.copyfile(root / "JPEGImages" / "2008_000001.jpg", tmp_path / "out.jpg")
    for name in ("../../../out", str(tmp_path / "out")):
        (root / "ImageSets" / "Main" / "train.txt").write_text(f"{name}\n")
        with pytest.raises(ValueError, match=r"Expected the image .*out.jpg, which .*train.txt"):
            load_voc("train", devkit, check_counts=False)


def test_an_annotation_of_voc_that_grows(tmp_path):
    devkit = write_voc(tmp_path)
    path = devkit / "VOC2012" / "Annotations" / "2008_000001.xml"
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 8))
    head = f'<!DOCTYPE annotation [<!ENTITY a0 "{"a" * 10}">{entities}]>'
    path.write_text(f"{head}<annotation><folder>&a7;</folder></annotation>")  # 100 MB
    with pytest.raises(ValueError, match="000001.xml: expected an annotation of VOC, no XML"):
        load_voc("train", devkit, check_counts=False)
    secret = tmp_path / "secret.txt"
    secret.write_text("person")
    head = f'<!DOCTYPE annotation [<!ENTITY a SYSTEM "{secret.as_uri()}">]>'
    path.write_text(f"{head}<annotation><object><name>&a;</name></object></annotation>")
    with pytest.raises(ValueError, match="000001.xml: expected an annotation of VOC") as error:
        load_voc("train", devkit, check_counts=False)
    assert "secret" not in str(error.value) and "person" not in str(error.value)


def test_names_of_coco_that_lead_out_of_its_folder(tmp_path):
    pytest.importorskip("pycocotools")
    folder = write_coco(tmp_path)
    path = folder / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    Image.new("RGB", (40, 40)).save(folder / "out.jpg")
    for image in content["images"]:
        image["file_name"] = "../out.jpg"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"Expected the image .*\.\./out.jpg, which "):
        load_coco("train", folder, check_counts=False)


# === Labels of others ===


def test_a_table_with_other_labels_than_the_model(data, tmp_path, capsys):
    write_table(tmp_path, num_images=2, labels=("red", "violet"))
    before = (data / "last" / "model.keras").read_bytes()
    text = error_of(capsys, "thresholds", data, tmp_path / "tags.csv")
    assert "row 3: expected a label that is known: blue, green, red. Received: violet" in text
    small_classifier().save(tmp_path / "nameless.keras")
    text = error_of(capsys, "thresholds", tmp_path / "nameless.keras", tmp_path / "tags.csv")
    assert "to have the 3 labels of the model. Received: 2, ['red', 'violet']" in text
    assert (data / "last" / "model.keras").read_bytes() == before


@pytest.mark.parametrize("command", ["predict", "thresholds"])
def test_commands_name_a_model_that_is_none(command, data, tmp_path, capsys):
    model = tmp_path / "last" / "model.keras"
    model.parent.mkdir()
    model.write_bytes((data / "last" / "model.keras").read_bytes()[:-30])
    text = error_of(capsys, command, tmp_path, data / "tags.csv")
    assert text.startswith(f"patchpu {command}: error: {model} is cut off")
    assert list(tmp_path.rglob("*")) == [model.parent, model]


# === A run that goes on ===


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder with a table, and what a run of one epoch with memory needs to go on."""
    folder = tmp_path_factory.mktemp("finished")
    table = write_table(folder, num_images=6)  # one of them to validate on
    config = TrainConfig(
        dataset="table",
        table=str(table),
        loss="en",
        expected_positives=1.4,
        epochs=1,
        image_size=32,
        patch_size=16,
        num_downsamples=1,
        features=8,
        hidden_units=6,
        output=str(folder / "run"),
    )
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(config.to_yaml())
    head = "epoch,loss,val_mAP,val_reciprocal_rank,seconds"
    (folder / "run" / "metrics.csv").write_text(f"{head}\n1,0.5,0.5,0.5,1.0\n")
    model = make_model(config, 3, LABELS)
    model.compile(make_optimizer(config, 1), make_loss(config, 1.4, 5, 3))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1)
    last = save_as_run(model, folder / "run").parent
    (last / "progress.json").write_text('{"epochs": 1}')
    np.save(last / "averages.npy", np.zeros((5, 3), "float32"))
    return folder


@pytest.fixture
def resume(finished, tmp_path, capsys):
    """Function of nothing: what `train --resume` of a copy complains about."""
    for name in ("run", "images", "tags.csv"):
        copy = shutil.copytree if (finished / name).is_dir() else shutil.copyfile
        copy(finished / name, tmp_path / name)
    settings = tmp_path / "run" / "config.yaml"
    settings.write_text(settings.read_text().replace(str(finished), str(tmp_path)))

    def resume():
        model = (tmp_path / "run" / "last" / "model.keras").read_bytes()
        text = error_of(capsys, "train", "--resume", "--output", tmp_path / "run")
        assert text.splitlines()[-1].startswith("patchpu train: error: ")
        assert (tmp_path / "run" / "last" / "model.keras").read_bytes() == model
        return text

    return resume


def test_of_other_labels(resume, tmp_path):
    table = tmp_path / "tags.csv"
    table.write_text(table.read_text().replace("red", "violet"))
    text = resume()
    assert "model.keras is of other labels. Expected: 3, blue, green, violet. Received: 3" in text


def test_with_a_damaged_model(resume, tmp_path):
    path = tmp_path / "run" / "last" / "model.keras"
    path.write_bytes(path.read_bytes()[:5000])
    assert "model.keras is cut off or damaged: 5,000 bytes" in resume()


def test_with_a_model_that_was_not_trained(resume, tmp_path):
    for compiled in (False, True):
        model = small_classifier(label_names=LABELS)
        if compiled:
            model.compile("adam", "binary_crossentropy")
        save_as_run(model, tmp_path / "run")
        assert "model.keras holds no state of a training to go on with" in resume()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"other": 1}', b'{"epochs": -1}', b'{"steps": "1"}', b"\xff"]
)
def test_with_damaged_progress(content, resume, tmp_path):
    (tmp_path / "run" / "last" / "progress.json").write_bytes(content)
    assert "progress.json is damaged: it does not tell how far the run has come" in resume()


@pytest.mark.parametrize("content", ["cut off", "other images", "objects"])
def test_with_damaged_averages(content, resume, tmp_path):
    path = tmp_path / "run" / "last" / "averages.npy"
    if content == "cut off":
        path.write_bytes(path.read_bytes()[:-1])
        assert "averages.npy is cut off or damaged" in resume()
    elif content == "other images":
        np.save(path, np.zeros((7, 3), "float32"))
        assert "averages.npy to hold floating-point numbers of the shape (5, 3)" in resume()
    else:
        np.save(path, np.array([[None]]), allow_pickle=True)
        assert "or holds other things than numbers" in resume()


# === What `predict` left ===


@pytest.mark.parametrize("settings", ["{", "[[1]]", None])
def test_damaged_settings_of_a_stopped_predict(settings, data, tmp_path, capsys):
    output = tmp_path / "tags.jsonl"
    part = tmp_path / "tags.jsonl.part"
    part.write_text('{"image": 1}\n')
    if settings is not None:
        (tmp_path / "tags.jsonl.part.json").write_text(settings)
    text = error_of(capsys, "predict", data, data / "tags.csv", "--output", output)
    assert "was left by a run with other settings" in text
    assert part.read_text() == '{"image": 1}\n'


@pytest.mark.parametrize("row", ["{", "[]", '{"image": "a"}'])
def test_damaged_rows_of_a_stopped_predict(row, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict_files, "check_settings", lambda part, settings: None)
    part = tmp_path / "tags.jsonl.part"
    part.write_text(f"{row}\n")
    output = tmp_path / "tags.jsonl"
    text = error_of(capsys, "predict", data, data / "tags.csv", "--output", output)
    assert "was left by a run over other images: it has None as number 1" in text

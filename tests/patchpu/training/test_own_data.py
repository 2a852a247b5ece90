"""Training on VOC, COCO and tables of images, from the command line."""

import dataclasses
import importlib.util
import json

import keras
import numpy as np
import pytest
from tiny_data import write_coco, write_table, write_voc
from tiny_runs import SMALL, rows_of, trained_without_report

from patchpu.__main__ import main
from patchpu.commands.train import parse_train_config
from patchpu.training.config import TrainConfig
from patchpu.training.run import train

# Their way through a run is that of test_run.py.
pytestmark = [
    pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles these for minutes"),
    pytest.mark.usefixtures("quick"),
]

SETTINGS = {**SMALL, "schedule": "constant", "model": "patch"}


def options(**values):
    """Command line of the settings."""
    arguments = []
    for name, value in {**SETTINGS, **values}.items():
        name = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        else:
            arguments += [f"--{name}", str(value)]
    return arguments


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_one_epoch_on_a_folder_of_the_published_format(dataset, tmp_path, capsys):
    data_dir = {"voc": write_voc, "coco": write_coco}[dataset](tmp_path / "data")
    output = tmp_path / "run"
    main(
        ["train", "--dataset", dataset, "--data-dir", str(data_dir), "--no-check-counts"]
        + options(epochs=1, output=output)
    )
    report = report_of(output)
    assert f"final val mAP {report['val_mAP']:.4f}" in capsys.readouterr().out
    assert report["observed"] is None and len(report["metrics"]["per_label"]) in (20, 80)
    model = keras.saving.load_model(output / "last" / "model.keras")
    assert ("person" in model.label_names) and model.thresholds is None
    assert (output / "attention.png").stat().st_size > 10_000
    assert (output / "located.png").stat().st_size > 10_000
    assert report["localization"]["labels"] == 4 and report["weak_negatives"]["epoch"] == 1


def test_the_preset_of_voc_is_the_papers():
    config = parse_train_config(["--dataset", "voc"])
    assert (config.image_size, config.patch_size, config.epochs) == (640, 64, 25)


def test_own_images_are_for_a_pretrained_backbone():
    config = parse_train_config(["--table", "tags.csv"])
    assert (config.dataset, config.model, config.image_size) == ("table", "backbone", 320)
    assert config.backbone == "efficientnet_lite0" and config.num_downsamples == 0
    config = parse_train_config(["--table", "tags.csv", "--model", "patch"])
    assert (config.model, config.image_size, config.patch_size) == ("patch", 256, 32)
    assert config.theta == 0


def test_without_the_weights_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec

    def without(name, *arguments):
        return None if name.startswith("efficientnet") else find_spec(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    table = write_table(tmp_path / "data")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--table", str(table), "--output", str(tmp_path / "run")])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "pip install 'keras_patchpu[pretrained]'" in message and "--model patch" in message
    assert not (tmp_path / "run").exists()


def test_a_table_trains_and_says_only_what_one_label_can_tell(tmp_path, capsys):
    table = write_table(tmp_path / "data")
    output = tmp_path / "run"
    main(["train", "--table", str(table), *options(epochs=2, output=output, image_fit="pad")])
    report = report_of(output)
    assert report["val_mAP"] is None and report["metrics"] is None
    recall = report["observed"]["recall_at"]["1"]
    assert f"final recall at 1 of the known labels {recall:.4f}" in capsys.readouterr().out
    page = (output / "report.md").read_text()
    assert "cannot be told" in page and "| label |" not in page
    ranks = [float(row["val_reciprocal_rank"]) for row in rows_of(output)]
    assert len(ranks) == 2 and report["best_epoch"]["epoch"] == 1 + int(np.argmax(ranks))
    model = keras.saving.load_model(output / "last" / "model.keras")
    assert model.label_names == ("blue", "green", "red") and model.image_fit == "pad"
    # The rows of the last epoch, worked out from the saved model.
    assert ranks[-1] == pytest.approx(report["observed"]["mean_reciprocal_rank"], abs=1e-6)


def test_a_fully_labelled_table_beside_it_gives_map(tmp_path):
    table = write_table(tmp_path / "data")
    other = write_table(tmp_path / "other", num_images=9, seed=5)
    config = TrainConfig(
        dataset="table",
        table=str(table),
        validation_table=str(other),
        epochs=1,
        output=str(tmp_path / "run"),
        **SETTINGS,
    )
    report = train(config, verbose=0)
    assert 0 < report["val_mAP"] <= 1 and report["observed"] is None
    assert [row["positives"] for row in report["metrics"]["per_label"]] == [3, 3, 3]


class Killed(keras.callbacks.Callback):
    """Dies at the end of the second epoch, before it is saved."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_stopped_run_on_files_goes_on_as_if_never_stopped(tmp_path):
    config = TrainConfig(
        dataset="table",
        table=str(write_table(tmp_path / "data")),
        augment=True,
        output=str(tmp_path / "whole"),
        epochs=2,
        **SETTINGS,
    )
    trained_without_report(config)
    stopped = dataclasses.replace(config, output=str(tmp_path / "stopped"))
    with pytest.raises(KeyboardInterrupt):
        train(stopped, verbose=0, callbacks=[Killed()])
    assert len(rows_of(tmp_path / "stopped")) == 1
    trained_without_report(dataclasses.replace(stopped, resume=True))
    whole, both = (
        [float(row["loss"]) for row in rows_of(tmp_path / name)] for name in ("whole", "stopped")
    )
    assert len(whole) == 2 and both == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "bce"}, "--loss bce needs every label"),
        ({"loss": "bce_ls"}, "--loss bce_ls needs every label"),
        ({"loss": "iun"}, "--loss iun needs every true label"),
        ({"loss": "epr"}, "--loss epr needs --expected-positives"),
        ({"loss": "role"}, "--loss role needs --expected-positives"),
        ({"loss": "en_scl"}, "--loss en_scl needs --expected-positives"),
        ({"max_pixels": 100}, "more than the limit of 100"),
    ],
)
def test_what_does_not_fit_ends_with_code_2_and_leaves_nothing(changes, message, tmp_path, capsys):
    table = write_table(tmp_path / "data")
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--table", str(table), *options(output=tmp_path / "run", **changes)])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_broken_image_is_named_before_training(tmp_path, capsys):
    table = write_table(tmp_path / "data")
    (tmp_path / "data" / "images" / "004.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--table", str(table), *options(output=tmp_path / "run")])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "1 of" in error and "004.png: not an image" in error
    assert not (tmp_path / "run").exists()

import dataclasses
import re

import pytest
import yaml

from patchpu.__main__ import main
from patchpu.commands.train import parse_train_config
from patchpu.training.config import TrainConfig, names_of_settings
from patchpu.training.distribution_options import DistributionOptions
from patchpu.training.losses import LOSSES
from patchpu.training.presets import PRESETS
from patchpu.training.setting import help_of

pytestmark = pytest.mark.no_backend


def test_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (25, 16, 0.001)
    assert (config.weight_decay, config.theta, config.schedule) == (0.0001, 0.0, "halving")
    assert (config.image_size, config.patch_size, config.num_downsamples) == (640, 64, 3)
    assert (PRESETS["voc"], PRESETS["coco"]) == (
        {"expected_positives": 1.38},
        {"expected_positives": 2.92},
    )


def test_order_defaults_preset_file_command_line(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 2\nbatch_size: 8\n")
    config = parse_train_config(["--config", str(file), "--batch-size", "4", "--loss", "an"])
    assert config.batch_size == 4  # command line over file
    assert config.epochs == 2  # file over preset
    assert config.patch_size == 16  # preset over default
    assert config.weight_decay == 0.0001  # default
    assert config.output.endswith("digits-an-seed0")


def test_a_data_set_named_in_the_file_chooses_the_preset(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("dataset: coco\n")
    config = parse_train_config(["--config", str(file)])
    assert (config.image_size, config.expected_positives) == (640, 2.92)


def test_resume_takes_the_settings_of_the_folder(tmp_path):
    saved = TrainConfig(loss="epr", epochs=3, image_size=64)
    (tmp_path / "config.yaml").write_text(saved.to_yaml())
    config = parse_train_config(["--resume", "--output", str(tmp_path)])
    assert config.resume
    assert config.settings() == saved.settings()


def test_saved_settings_are_whole_and_read_back():
    config = TrainConfig(codebook_std=0.02, stop_gradient=False)
    assert TrainConfig(**yaml.safe_load(config.to_yaml())).settings() == config.settings()


# The first was found by fuzzing: of a wrong tag PyYAML raises anything.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: !!int ''", "IndexError"),
        ("output: !!timestamp x", "AttributeError"),
        ("augment: !!bool x", "settings cannot be read|error: 'x'"),
        ("loss_arguments: &a {theta: *a}", "RecursionError"),
        ("__path__: 1", "__path__"),
    ],
)
def test_a_file_that_cannot_be_read_ends_with_code_2(text, message, tmp_path, capsys):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as end:
        parse_train_config(["--config", str(file)])
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"theta": float("nan")}, "`theta` to be a number. Received: theta=nan"),
        ({"expected_positives": float("nan")}, "`expected_positives` to be a number"),
        ({"loss_arguments": {1: 2.0}}, "`loss_arguments`.*1 with a value of type float"),
        ({"loss_arguments": {"a": [("b", 1)]}}, "`loss_arguments`.*'a'.*type list"),
        ({"loss_arguments": {"a": {"b": 1}}}, "`loss_arguments`.*'a'.*type dict"),
    ],
)
def test_what_a_resumed_run_would_not_find_again_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--loss", "nope"], "loss"),
        (["train", "--epochs", "many"], "epochs"),
        (["train", "--xla", "on"], "xla"),
        (["train", "--rank", "1"], "--distribute with"),
        (["train", "--epochs", "0"], "`epochs` to be a positive integer"),
        (["train", "--theta", "2"], "`theta`"),
        (["train", "--strides", "0"], "`strides` to be a positive integer"),
        (["train", "--no-such-option", "1"], "no-such-option"),
        (["train", "--dataset", "voc", "--data-dir", "nowhere"], "nowhere"),
        (["train", "--dataset", "coco", "--data-dir", "nowhere"], "nowhere"),
        (["train", "--table", "nowhere.csv"], "nowhere.csv"),
        (["train", "--dataset", "table"], "--table with --dataset table"),
        (["train", "--validation-share", "1.5"], "`validation_share`"),
        (["train", "--patch-size", "128"], "at least as large as a patch"),
        (["train", "--resume", "--output", "missing-folder"], "no run to resume"),
        (["fly"], "expected a command"),
        ([], "expected a command"),
    ],
)
def test_what_a_user_can_mend_ends_with_code_2_and_leaves_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unknown_key_in_the_file(tmp_path, capsys):
    file = tmp_path / "settings.yaml"
    file.write_text("epoch: 2\n")
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--config", str(file)])
    assert exit_.value.code == 2
    assert "epoch" in capsys.readouterr().err


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for name in TrainConfig().settings():
        assert f"--{name.replace('_', '-')}" in text


def test_help_says_who_alone_reads_a_setting():
    helps = {field.name: help_of(field) for field in dataclasses.fields(TrainConfig)}
    assert helps["negative_weight"] == "Weight of the assumed negatives (an)."
    assert helps["average_momentum"].endswith("(en, en_cl, en_scl).")
    assert helps["expected_positives"].endswith("(epr, role, en, en_cl, en_scl).")
    assert helps["max_digits"].endswith("1 to 4 (digits).")
    assert helps["patch_size"].endswith("(patch).")
    assert helps["epochs"] == "Passes over the training images."


def test_what_decides_the_result_and_what_the_speed():
    config = TrainConfig(output="here", tensorboard=True, xla="never", checkpoint_minutes=0.0)
    assert config.settings() == TrainConfig().settings()
    every = {field.name for field in dataclasses.fields(TrainConfig)}
    where = {"output", "resume", "checkpoint_minutes", "tensorboard"}
    assert every - set(config.settings()) == where | {"xla"}
    speed = set(names_of_settings("speed"))
    assert {"xla", "loss", "image_size", "batch_size", "stop_gradient"} <= speed
    assert not speed & ({"epochs", "seed", "theta", "learning_rate", "num_train"} | where)


def test_every_setting_of_a_loss_is_read_by_one():
    for field in dataclasses.fields(TrainConfig):
        if field.metadata["of"] == "loss":
            assert any(field.name in row.settings for row in LOSSES.values()), field.name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "nope"}, "`loss` to be one of .*'wn', .*'nope'"),
        ({"model": "nope"}, r"`model` to be one of \['patch', 'backbone', 'resnet'\]"),
        ({"seed": -1}, "`seed` to be an integer of at least 0"),
        ({"epochs": True}, "`epochs` to be a positive integer"),
        ({"learning_rate": 0.0}, "`learning_rate` to be a number > 0"),
        ({"average_momentum": 1.0}, "`average_momentum` to be a number >= 0 and < 1"),
        ({"pseudo_label_share": 1.5}, "`pseudo_label_share` to be a number >= 0 and <= 1"),
        ({"pseudo_label_warmup": 0}, "`pseudo_label_warmup` to be a positive integer"),
        ({"loss": "en_scl", "augment": True, "image_fit": "pad"}, "--image-fit stretch"),
    ],
)
def test_what_is_out_of_range_is_refused_in_python_too(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, "--distribute with"),
        ({"distribute": True, "processes": 2}, "--coordinator HOST:PORT with"),
        (
            {"distribute": True, "processes": 2, "coordinator": "a:1", "rank": 2},
            "--rank from 0 to 1",
        ),
        ({"distribute": True, "processes": 2, "coordinator": "a"}, "HOST:PORT. Received: 'a'"),
    ],
)
def test_options_of_distribution_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        DistributionOptions(**options)


@pytest.mark.parametrize("dataset", ["digits", "table"])
def test_patches_of_every_level_cover_the_whole_image(dataset):
    """Not so the paper's 640 pixels and patches of 64, of which the last levels leave margins."""
    table = "tags.csv" if dataset == "table" else None
    config = TrainConfig(**{**PRESETS[dataset], "dataset": dataset, "table": table})
    for level in range(config.num_downsamples + 1):
        side = config.image_size / 2**level
        assert side % config.patch_size == 0 and side >= config.patch_size

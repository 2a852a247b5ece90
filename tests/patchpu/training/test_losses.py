"""The table of losses: what its rows say, and a row that is added."""

import dataclasses
import re
import sys
import types

import keras
import pytest
from backend import functions_not_compiled, numpy
from losses_in_numpy import assumed_negatives
from tiny_runs import rows_of, tiny, trained_without_report

from keras_patchpu import losses
from keras_patchpu.losses import AssumeNegative
from patchpu.__main__ import main
from patchpu.card.model_card import model_card
from patchpu.commands.train import parse_train_config
from patchpu.training.build import make_loss, make_model
from patchpu.training.config import TrainConfig
from patchpu.training.data import load_data
from patchpu.training.loss_row import LossRow
from patchpu.training.losses import LOSSES


@pytest.fixture(scope="module")
def model():
    return make_model(tiny("unused"), 10)


def card_of(model, loss):
    report = {
        "metrics": None,
        "val_mAP": None,
        "best_epoch": {"epoch": 1},
        "observed": {"recall_at": {1: 0.5}, "mean_reciprocal_rank": 0.5},
        "localization": None,
        "settings": TrainConfig(loss=loss).settings(),
    }
    return model_card(model, [(report, {"versions": {}})])


def help_of_train(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_every_loss_is_in_the_help(capsys):
    text = help_of_train(capsys)
    for row in LOSSES.values():
        assert f"`{row.name}` {row.title}" in text


def test_every_loss_has_its_class_and_its_card(model):
    config = TrainConfig()
    seen = {
        "all labels": "all of them",
        "one positive": "with its fixed seed); all others",
        "one positive and one negative": "and one absent label;",
        "one positive and all negatives": "and every absent label;",
    }
    for name, row in LOSSES.items():
        assert name == row.name and row.sentence.endswith(".") and re.search(r"20\d\d", row.paper)
        loss = make_loss(dataclasses.replace(config, loss=name), 1.5, 20, 10)
        assert isinstance(loss, row.loss_class) and isinstance(loss, keras.losses.Loss)
        card = card_of(model, name)
        assert f"- Loss `{name}`: {row.title}." in card
        (line,) = [line for line in card.splitlines() if "Labels that the loss saw" in line]
        assert seen[row.observes] in line
        assert ("not calibrated" in card) == (row.observes != "all labels")


def test_what_a_row_says_of_its_loss_is_what_the_loss_asks_for():
    small = {
        "logits",
        "probabilities",
        "epoch",
        "expected_negatives",
        "average",
        "pseudo_labels",
    }  # (B, L) or less
    for row in LOSSES.values():
        needs = set(make_loss(TrainConfig(loss=row.name), 1.5, 20, 10).needs)
        assert row.adds_to_step == bool(needs - small), row.name
        averaged = {"expected_negatives", "average", "average_maps"}
        assert row.averages_predictions == bool(needs & averaged), row.name
        assert (row.remembers == "average maps") == ("average_maps" in needs), row.name
        assert (row.remembers == "pseudo-labels") == ("pseudo_labels" in needs), row.name
        own_weights = row.remembers in ("estimated labels", "corrections")
        assert own_weights == ("image_index" in needs), row.name


def test_settings_reach_the_loss():
    assert make_loss(TrainConfig(theta=0.25), 1.5, 20, 10).theta == 0.25
    role = make_loss(TrainConfig(loss="role", seed=3), 1.5, 20, 10)
    assert (role.num_images, role.num_labels, role.expected_positives) == (20, 10, 1.5)
    given = TrainConfig(loss="epr", expected_positives=2.5)
    assert make_loss(given, 1.5, 20, 10).expected_positives == 2.5
    assert make_loss(TrainConfig(loss="gr", epochs=7), 1.5, 20, 10).num_epochs == 7
    assert make_loss(TrainConfig(loss="em"), 1.5, 20, 10).alpha == 0.1
    assert make_loss(TrainConfig(loss="em", dataset="voc"), 1.5, 20, 10).alpha == 0.2
    own = TrainConfig(loss="em", dataset="voc", loss_arguments={"alpha": 0.5})
    assert make_loss(own, 1.5, 20, 10).alpha == 0.5
    wrong = TrainConfig(loss="an", loss_arguments={"alpha": 0.5})
    with pytest.raises(ValueError, match=r"loss_arguments of AssumeNegative.*\['alpha'\]"):
        make_loss(wrong, 1.5, 20, 10)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(AssumeNegative):
    """Twice `an`."""

    def call(self, y_true, y_pred):
        return 2 * super().call(y_true, y_pred)


def test_a_new_loss_is_one_class_and_one_row(monkeypatch, tmp_path, capsys, model):
    module = types.ModuleType("my_losses")
    module.Doubled = Doubled
    monkeypatch.setitem(sys.modules, "my_losses", module)
    row = LossRow(
        "doubled",
        "assume negative, doubled",
        "Every label without annotation counts as absent, twice.",
        "Nobody, 2026",
        "my_losses.Doubled",
        takes={"weight": "negative_weight"},
    )
    monkeypatch.setitem(LOSSES, "doubled", row)

    text = help_of_train(capsys)
    assert "`doubled` assume negative, doubled" in text and "negatives (an, doubled)" in text
    assert "- Loss `doubled`: assume negative, doubled." in card_of(model, "doubled")
    config = parse_train_config(["--loss", "doubled", "--negative-weight", "0.5"])
    assert (config.loss, config.negative_weight) == ("doubled", 0.5)
    output = tmp_path / "run"
    config = tiny(
        output, loss="doubled", epochs=1, num_train=8, num_validation=8, batch_norm_momentum=0.0
    )
    with functions_not_compiled():
        trained_without_report(config)
    data = load_data(config)
    keras.utils.set_random_seed(config.seed)
    start = make_model(config, 10)
    logits = numpy(start(data.train.images, training=True)["logits"])
    expected = 2 * assumed_negatives(data.observed, logits.astype("float64"), 0).mean()
    assert float(rows_of(output)[0]["loss"]) == pytest.approx(expected, rel=2e-4)


def test_every_class_of_the_table_is_public():
    """And so has a case of the generic checks, see test_generic_checks.py."""
    public = {getattr(losses, name) for name in losses.__all__}
    assert {row.loss_class for row in LOSSES.values()} <= public

"""Thresholds worked out by hand, and the command that stores them."""

import types
import zipfile

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from PIL import Image
from small import calibrated_classifier, small_images

from keras_patchpu import PatchClassifier
from keras_patchpu.datasets import table
from keras_patchpu.datasets.image_files import ImageFiles
from keras_patchpu.metrics import choose_thresholds, thresholds
from keras_patchpu.optimizers import Lamb
from patchpu.training.run_folder import RunFolder
from patchpu.training.save_progress import Progress

pytestmark = pytest.mark.no_backend

# One label, by falling score. Predicted down to the score: precision, recall, F1:
# 0.9: 1/1 1/3 .5   0.8: 1/2 1/3 .4   0.6: 2/3 2/3 .667   0.5: 3/4 3/3 .857   0.2: 3/5 1 .75
SCORES = np.array([0.9, 0.8, 0.6, 0.5, 0.2])[:, None]
LABELS = np.array([1, -1, 1, 1, -1])[:, None]


@pytest.mark.parametrize(
    "choose, at_least, threshold, precision, recall",
    [
        ("f1", None, (0.5 + 0.2) / 2, 3 / 4, 1),
        ("precision", 0.75, (0.5 + 0.2) / 2, 3 / 4, 1),
        ("precision", 0.6, (0.2 + 0.0) / 2, 3 / 5, 1),
        ("precision", 0.9, (0.9 + 0.8) / 2, 1, 1 / 3),
        ("recall", 1.0, (0.5 + 0.2) / 2, 3 / 4, 1),
        ("recall", 0.5, (0.6 + 0.5) / 2, 2 / 3, 2 / 3),
        ("recall", 0.1, (0.9 + 0.8) / 2, 1, 1 / 3),
    ],
)
def test_by_hand(choose, at_least, threshold, precision, recall):
    result = choose_thresholds(LABELS, SCORES, choose, at_least)
    np.testing.assert_allclose(result["thresholds"], [threshold])
    np.testing.assert_allclose(result["precision"], [precision])
    np.testing.assert_allclose(result["recall"], [recall])
    np.testing.assert_allclose(result["f1"], [2 * precision * recall / (precision + recall)])
    assert result["positives"].tolist() == [3] and result["known"].tolist() == [5]
    assert result["note"] == ("",)


def test_unknown_entries_count_for_their_label_only():
    # Of label 0 the first two images are not known: 0.6 and 0.5 are right, 0.2 is not.
    labels = np.concatenate([LABELS, LABELS], axis=1)
    labels[:2, 0] = 0
    result = choose_thresholds(labels, np.repeat(SCORES, 2, axis=1))
    np.testing.assert_allclose(result["thresholds"], [0.35, 0.35])
    np.testing.assert_allclose(result["precision"], [1, 3 / 4])
    assert result["positives"].tolist() == [2, 3] and result["known"].tolist() == [3, 5]
    # The score of an image that is not known does not move the middle either.
    labels = np.array([[1], [0], [-1]])
    result = choose_thresholds(labels, np.array([[0.9], [0.8], [0.1]]))
    np.testing.assert_allclose(result["thresholds"], [0.5])


def test_labels_without_a_threshold_are_named_and_not_predicted():
    labels = np.array([[-1, 1, -1, 1], [-1, 1, 1, -1], [0, 0, -1, -1]])
    scores = np.array([[0.4, 0.4, 0.9, 0.9], [0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.1, 0.1]])
    result = choose_thresholds(labels, scores, "precision", 0.8)
    np.testing.assert_allclose(result["thresholds"], [1, 1, 1, 0.7])
    assert result["note"] == (
        "no image is known to have it",
        "no image is known not to have it",
        "no threshold has a precision of 0.8",
        "",
    )
    for key in ("precision", "recall", "f1"):
        assert result[key].tolist() == [0, 0, 0, 1]


def test_of_equal_f1_the_highest_threshold():
    # Down to 0.9: 1/1 and 1/2, F1 2/3; down to 0.1: 2/4 and 2/2, F1 2/3.
    labels = np.array([[1], [-1], [-1], [1]])
    scores = np.array([[0.9], [0.5], [0.3], [0.1]])
    np.testing.assert_allclose(choose_thresholds(labels, scores)["thresholds"], [0.7])


def test_equal_scores_and_scores_of_zero():
    result = choose_thresholds(np.array([[1], [-1]]), np.zeros((2, 1)))
    assert result["thresholds"].tolist() == [0] and result["recall"].tolist() == [1]
    # Neighbours among float64 have no middle: the score itself.
    scores = np.array([[0.5], [np.nextafter(0.5, 0)]])
    assert choose_thresholds(LABELS[:2], scores)["thresholds"].tolist() == [0.5]


def test_best_of_all_thresholds():
    random = np.random.default_rng(0)
    labels = random.choice([-1, 0, 1], (60, 4))
    scores = random.random((60, 4)).round(2)
    result = choose_thresholds(labels, scores)
    for label in range(4):
        known = labels[:, label] != 0
        present, values = labels[known, label] > 0, scores[known, label]
        f1 = [
            2 * (present & (values >= at)).sum() / (present.sum() + (values >= at).sum())
            for at in np.linspace(0, 1, 1001)
        ]
        assert result["f1"][label] == pytest.approx(max(f1))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"choose": "best"}, "`choose` to be one of"),
        ({"at_least": 0.5}, "no `at_least`"),
        ({"choose": "precision"}, "`at_least`.*None"),
        ({"choose": "recall", "at_least": 0}, "`at_least`.*> 0"),
        ({"choose": "recall", "at_least": 1.1}, "`at_least`.*<= 1"),
        ({"labels": LABELS.T}, "one shape"),
        (
            {"labels": (LABELS > 0).astype(int)},
            r"known to be absent.*np.where\(labels > 0, 1, -1\)",
        ),
        ({"scores": SCORES + 1}, "from 0 to 1.*1.9"),
        ({"scores": SCORES * np.nan}, "finite"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        choose_thresholds(**{"labels": LABELS, "scores": SCORES, **change})


# === The command ===


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Path of a compiled model, its scores of 4 images, and a table whose labels can be set."""
    fused = PatchClassifier.fused

    def eager(self):  # compiling costs more than it saves
        model = fused(self)
        model.run_eagerly = FEW_STEPS["run_eagerly"]
        return model

    monkeypatch.setattr(PatchClassifier, "fused", eager)
    model = calibrated_classifier(label_names=["cat", "dog", "owl"])
    model.compile(Lamb(1e-3), "binary_crossentropy")
    model.save(tmp_path / "last.keras")
    images = small_images()
    paths = [str(tmp_path / f"{index}.png") for index in range(4)]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    scores = model.explain(images)["probabilities"]
    order = np.argsort(-scores, axis=0)
    labels = np.full((4, 3), -1, "int8")
    labels[order[:2, 0], 0] = 1  # the two of highest score have label 0
    labels[order[:1, 1], 1] = 1
    files = ImageFiles(paths, paths, labels, ("cat", "dog", "owl"))
    result = types.SimpleNamespace(
        path=tmp_path / "last.keras", scores=scores, train=files, validation=None, asked=[]
    )

    def load_table(path, **arguments):
        result.asked.append((path, arguments))
        return result

    monkeypatch.setattr(table, "load_table", load_table)
    return result


def test_command_stores_thresholds(data, capsys):
    thresholds([str(data.path.parent), "labels.csv"])
    names = ("cat", "dog", "owl")
    wanted = {"unlisted": "absent", "label_names": names, "allow_outside": False}
    assert data.asked == [("labels.csv", wanted)]
    output = capsys.readouterr().out
    assert "optimistic" in output and str(data.path) in output
    lines = [line.split() for line in output.splitlines()[:4]]
    assert lines[0] == ["label", "positives", "known", "threshold", "precision", "recall", "F1"]
    ranked = -np.sort(-data.scores, axis=0)
    expected = [(ranked[1, 0] + ranked[2, 0]) / 2, (ranked[0, 1] + ranked[1, 1]) / 2, 1]
    assert lines[1] == ["cat", "2", "4", f"{expected[0]:.4f}", "1.000", "1.000", "1.000"]
    assert " ".join(lines[3][3:]) == "1.0000 0.000 0.000 0.000 no image is known to have it"
    model = keras.saving.load_model(data.path)
    np.testing.assert_allclose(model.thresholds, expected, atol=1e-4)
    assert isinstance(model.optimizer, Lamb)  # training can still go on
    assert sorted(path.name for path in data.path.parent.glob("*keras*")) == ["last.keras"]


def test_command_keeps_what_the_file_tells_of_its_run(data):
    progress = Progress(3, 5, 1.5, (2.0, 8.0))
    with zipfile.ZipFile(data.path, "a") as archive:
        archive.comment = progress.to_bytes()
    thresholds([str(data.path), "labels.csv"])
    found = RunFolder(data.path.parent).progress()
    assert (found.epochs, found.steps, found.seconds, found.loss) == (3, 5, 1.5, [2.0, 8.0])
    assert keras.saving.load_model(data.path).thresholds is not None


def test_command_takes_validation_images_and_leaves_broken_ones_out(data, capsys):
    data.validation = data.train.take([0, 1, 2, 3])
    data.train = None
    open(data.validation.sources[3], "w").close()
    with pytest.raises(SystemExit) as stopped:
        thresholds([str(data.path), "t.csv", "--choose", "recall", "--at-least", "0.5"])
    assert stopped.value.code == 1
    output, errors = capsys.readouterr()
    assert "chosen on 3 images, its validation images" in output
    assert "1 images could not be read" in errors and "3.png: the file is empty" in errors
    assert keras.saving.load_model(data.path).thresholds is not None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{model}", "t.csv", "--choose", "best"], "`choose` to be one of"),
        (["{model}", "t.csv", "--choose", "recall"], "`at_least`"),
        (["{model}.old", "t.csv"], "There is no model"),
    ],
)
def test_command_tells_what_to_mend(data, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        thresholds([argument.format(model=data.path) for argument in arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not data.asked
    assert keras.saving.load_model(data.path).thresholds is None

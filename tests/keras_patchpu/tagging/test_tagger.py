"""Tags against plain `read_image` and `predict`."""

import io
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image
from tagged_images import BROKEN, NAMES, SIZES, scores_of, set_on

from keras_patchpu import PatchClassifier
from keras_patchpu.datasets.read_image import ImageError, read_image
from keras_patchpu.tagging import Tagger, given_labels


def check_scores_and_order(model, paths, attention):
    found = list(Tagger(model, batch_size=3, workers=2, attention=attention)(iter(paths)))
    assert [tags.name for tags in found] == paths
    broken = found.pop(BROKEN)
    assert broken.scores is None and broken.tags == () and broken.size is None
    assert broken.error.startswith(f"{paths[BROKEN]}: damaged or unreadable")
    scores = scores_of(model, paths[:BROKEN] + paths[BROKEN + 1 :])
    np.testing.assert_allclose([tags.scores for tags in found], scores, atol=1e-4)
    for tags, row in zip(found, scores):
        assert tags.error is None and tags.scores.dtype == "float32"
        assert tags.tags == tuple(NAMES[label] for label in np.argsort(-row))
        assert (tags.heatmaps is not None) == (tags.regions is not None) == attention
    assert [tags.size for tags in found] == SIZES


def test_scores_and_order(model, paths):
    check_scores_and_order(model, paths, attention=False)


def test_scores_and_order_of_padded_images(model, paths):
    check_scores_and_order(set_on(model, image_fit="pad"), paths, attention=False)


def test_scores_and_order_of_a_compiled_model(compiled, model, paths):
    check_scores_and_order(model, paths, attention=True)


def test_paths_bytes_and_arrays(model, paths):
    array = read_image(paths[3])
    path = pathlib.Path(paths[3])
    found = list(Tagger(model, batch_size=2)([path, path.read_bytes(), array]))
    assert [tags.name for tags in found] == [paths[3], "image 1", "image 2"]
    for tags in found:
        np.testing.assert_allclose(tags.scores, found[0].scores, atol=1e-6)


def test_size_is_that_of_the_upright_image(model):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "JPEG", exif=exif)
    (found,) = Tagger(model)([file.getvalue()])
    assert found.size == (40, 30)


def test_top_k(model, paths):
    ranked, two, many = (next(Tagger(model, top_k=top_k)(paths[:1])).tags for top_k in (None, 2, 9))
    assert len(ranked) == 3 and two == ranked[:2] and many == ranked


@pytest.mark.parametrize("top_k", [None, 1])
def test_thresholds(model, paths, monkeypatch, top_k):
    scores = scores_of(model, paths[:4])
    thresholds = np.sort(scores, axis=0)[2] - 1e-3  # of each label two images are at or above
    monkeypatch.setattr(model, "thresholds", thresholds.tolist())
    monkeypatch.setattr(model, "label_names", None)
    found = Tagger(model, top_k)(paths[:4])
    for tags, row in zip(found, scores, strict=True):
        above = [label for label in np.argsort(-row) if row[label] >= thresholds[label]]
        assert tags.tags == tuple(map(str, above[:top_k]))


def test_a_threshold_that_is_met_exactly_counts(model, paths, monkeypatch):
    scores = next(Tagger(model)(paths[:1])).scores
    for nudge, expected in [(0, set(NAMES)), (1, set())]:
        thresholds = scores.astype("float64") + nudge * 1e-12
        monkeypatch.setattr(model, "thresholds", thresholds.tolist())
        (found,) = Tagger(model)(paths[:1])
        assert set(found.tags) == expected


def test_reads_no_more_than_three_batches_ahead(model):
    taken = []

    def images():
        for index in range(50):
            taken.append(index)
            yield np.zeros((32, 32, 3), "uint8")

    found = Tagger(model, batch_size=2)(images())
    most = 0
    for index, _ in enumerate(found):
        most = max(most, len(taken) - index)
        if index == 20:
            break
    found.close()
    assert most <= 6 and len(taken) <= 26


def test_one_shape_for_every_batch(model, paths, monkeypatch):
    shapes = []

    class Network:
        def part(self, *names):
            return self

        def predict_on_batch(self, images):
            shapes.append(images.shape)
            return {"probabilities": np.full((len(images), 3), 0.5, "float32")}

    monkeypatch.setattr(PatchClassifier, "fused", lambda self: Network())
    tagger = Tagger(model, batch_size=4)
    assert len(list(tagger(paths))) == 7
    list(tagger(paths[4:5]))  # a batch of broken images is not predicted
    assert shapes == [(4, 32, 32, 3)] * 2


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4, 3)), r"image 1 to be a uint8 array.*float64, shape \(4, 4, 3\)"),
        (np.zeros((4, 4), "uint8"), r"uint8, shape \(4, 4\)"),
        (7, "image 1 to be a path, bytes or an array.*int"),
    ],
)
def test_refuses_what_is_no_image(model, image, message):
    with pytest.raises(ValueError, match=message) as raised:
        list(Tagger(model)([np.zeros((4, 4, 3), "uint8"), image]))
    assert not isinstance(raised.value, ImageError)


def test_nan_is_not_taken_for_an_absent_label(model, paths):
    broken = set_on(model)
    broken.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="0.png: the model predicts NaN"):
        list(Tagger(broken)(paths))


@pytest.mark.parametrize("argument", ["top_k", "batch_size", "max_pixels", "workers"])
def test_refuses_bad_arguments(model, argument):
    with pytest.raises(ValueError, match=f"`{argument}` to be a positive integer"):
        Tagger(model, **{argument: 0})


def test_refuses_what_is_no_model(tmp_path, saved):
    keras.Sequential([keras.Input((2,))]).save(tmp_path / "other.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK")
    for path, message in [
        ("none.keras", "There is no model .*none.keras"),
        (
            "other.keras",
            "other.keras to hold a PatchClassifier or BackboneClassifier. Received: Sequential",
        ),
        ("broken.keras", "broken.keras is cut off or damaged: 2 bytes"),
        ("", "holds no last"),
    ]:
        with pytest.raises(ValueError, match=message):
            Tagger(tmp_path / path)
    with pytest.raises(ValueError, match="BackboneClassifier, or the path.*int"):
        Tagger(7)
    assert Tagger(saved).label_names == tuple(NAMES)


@pytest.mark.parametrize(
    "thresholds, top_k, expected",
    [
        (None, None, [3, 1, 2]),
        (None, 1, [3]),
        (None, 9, [3, 1, 2, 4, 0]),
        (0.5, None, [3, 1, 2, 4]),
        (0.5, 2, [3, 1]),
        ([0, 0.8, 0.5, 0.95, 0.6], None, [2, 0]),
        (1.0, None, []),
    ],
)
def test_given_labels(thresholds, top_k, expected):
    scores = [0.2, 0.7, 0.7, 0.9, 0.5]  # of equals the first comes first
    assert given_labels(scores, thresholds, top_k).tolist() == expected

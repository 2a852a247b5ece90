import shutil

import numpy as np
import pytest
from PIL import Image
from small import small_classifier, small_images, small_labels

from keras_patchpu.callbacks import PredictionAverages
from keras_patchpu.callbacks.prediction_averages import crop_maps
from keras_patchpu.utils.validation import FileError

pytestmark = pytest.mark.usefixtures("few_blocks")


class Foretold:
    """A model whose predictions are given: one pair of probabilities and maps an epoch."""

    def __init__(self, images, epochs):
        self.output = {"score_maps": epochs[0][1]}
        self.images, self.epochs, self.epoch = images, epochs, 0

    def part(self, *names):
        self.names = names
        return self

    def predict(self, images, batch_size, verbose):
        rows = [np.flatnonzero((self.images == image).all(axis=(1, 2, 3)))[0] for image in images]
        found = dict(zip(("probabilities", "score_maps"), self.epochs[self.epoch]))
        return {name: found[name][rows] for name in self.names}


def foretold(num_epochs=3, seed=0):
    """Model, probabilities (E, 4, 3) and log-odds of places (E, 4, 2, 2, 3)."""
    random = np.random.default_rng(seed)
    probabilities = random.random((num_epochs, 4, 3)).astype("float32")
    maps = random.normal(size=(num_epochs, 4, 2, 2, 3)).astype("float32")
    return Foretold(small_images(), list(zip(probabilities, maps))), probabilities, maps


def averages(model, **kwargs):
    arguments = {"expected_positives": 1.5, "momentum": 0.75} | kwargs
    found = PredictionAverages(small_images(), small_labels(), **arguments)
    found.set_model(model)
    return found


def folder_of(found, folder):
    """A folder that the callback was saved into."""
    folder.mkdir()
    found.save(folder)
    return folder


def test_running_average_of_predictions_and_heat_maps():
    model, probabilities, maps = foretold()
    found = averages(model, spatial=True)
    heat = 1 / (1 + np.exp(-maps.astype("float64")))
    mean, mean_heat = probabilities[0], heat[0]
    for epoch in range(3):
        model.epoch = epoch
        found.on_epoch_end(epoch)
        if epoch:
            mean = 0.75 * mean + 0.25 * probabilities[epoch]
            mean_heat = 0.75 * mean_heat + 0.25 * heat[epoch]
    targets = found.targets(np.array([2, 0]))
    np.testing.assert_allclose(targets["average"], mean[[2, 0]], rtol=1e-6)
    # Half precision: 11 bits.
    np.testing.assert_allclose(targets["average_maps"], mean_heat[[2, 0]], rtol=3e-3)
    assert {values.dtype.name for values in targets.values()} == {"float32"}


def test_before_the_first_epoch_ends_nothing_is_known():
    found = averages(foretold()[0], spatial=True)
    targets = found.targets(np.array([0, 1]))
    assert not targets["average"].any() and targets["average"].shape == (2, 3)
    assert not targets["average_maps"].any() and targets["average_maps"].shape == (2, 2, 2, 3)
    # Image 0 has label 0 present and label 1 absent, image 1 label 1 present.
    np.testing.assert_array_equal(targets["expected_negatives"], [[0, 0, 1], [1, 0, 1]])


def test_expected_negatives_are_all_but_the_highest_expected_number():
    model, probabilities, _ = foretold()
    found = averages(model, expected_positives=1.75)
    found.on_epoch_end(0)
    # 1.75 labels of 4 images are 7, 4 of them observed: the 3 highest of 7 unobserved ones.
    unobserved = small_labels() == 0
    order = sorted(probabilities[0][unobserved], reverse=True)
    expected = unobserved & (probabilities[0] <= order[3])
    assert expected.sum() == unobserved.sum() - 3
    np.testing.assert_array_equal(found.targets(np.arange(4))["expected_negatives"], expected)


def test_of_equal_predictions_the_first_are_expected_positives():
    model, probabilities, _ = foretold()
    probabilities[0] = 0.5
    found = averages(model, expected_positives=1.5)
    found.on_epoch_end(0)
    # 6 labels, 4 observed: labels 2 of image 0 and 0 of image 1.
    expected = [[0, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]
    np.testing.assert_array_equal(found.targets(np.arange(4))["expected_negatives"], expected)


def test_fewer_expected_than_observed_makes_all_others_negatives():
    found = averages(foretold()[0], expected_positives=0.5)
    found.on_epoch_end(0)
    np.testing.assert_array_equal(found.expected_negatives, small_labels() == 0)


def test_goes_on_from_what_was_saved(tmp_path):
    model, _, _ = foretold()
    one = averages(model, spatial=True)
    one.on_epoch_end(0)
    saved = folder_of(one, tmp_path / "first")
    assert {path.name for path in saved.iterdir()} == {"averages.npy", "heat_maps.npy"}
    model.epoch = 1
    one.on_epoch_end(1)
    two = averages(model, spatial=True, folder=tmp_path / "memory")
    two.load(saved)
    shutil.rmtree(saved)  # as a checkpoint is that another takes the place of
    two.on_epoch_end(1)
    for name, values in one.targets(np.arange(4)).items():
        np.testing.assert_array_equal(two.targets(np.arange(4))[name], values)
    # Of former epochs nothing is kept.
    assert len(list((tmp_path / "memory").iterdir())) == 1


def test_what_was_saved_stays_as_it_was(tmp_path):
    model, _, _ = foretold()
    one = averages(model, spatial=True)
    one.on_epoch_end(0)
    saved = folder_of(one, tmp_path / "first")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    model.epoch = 1
    one.on_epoch_end(1)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    later = folder_of(one, tmp_path / "second")
    assert all((later / name).read_bytes() != content for name, content in before.items())


def test_before_the_first_epoch_ends_nothing_is_saved(tmp_path):
    saved = folder_of(averages(foretold()[0], spatial=True), tmp_path / "first")
    assert not list(saved.iterdir())


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileError, match=r"to go on from. Missing: .*averages.npy"):
        averages(foretold()[0]).load(tmp_path)


def test_files_that_are_damaged_or_of_another_run(tmp_path):
    model, _, _ = foretold()
    one = averages(model, spatial=True)
    one.on_epoch_end(0)
    folder = folder_of(one, tmp_path / "saved")
    # A file of its own, not a second name of that of the callback.
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, shape, wanted in [
        ("averages.npy", (4, 3), r"\(4, 3\). Received: float32, shape \(5, 3\)"),
        ("heat_maps.npy", (4, 2, 2, 3), r"\(4, any, any, 3\). Received: float32, shape \(5, 2"),
    ]:
        path = folder / name
        path.unlink()
        path.write_bytes(whole[name][:-1])
        with pytest.raises(FileError, match=f"{name} is cut off or damaged"):
            averages(model, spatial=True).load(folder)
        np.save(path, np.zeros((5, *shape[1:]), "float32"))
        with pytest.raises(FileError, match=f"{name} to hold .*{wanted}"):
            averages(model, spatial=True).load(folder)
        path.write_bytes(whole[name])
    np.save(folder / "heat_maps.npy", np.zeros((4, 3, 2, 3), "float16"))
    other = PredictionAverages(small_images(), small_labels(), 1.5, spatial=True)
    other.load(folder)
    with pytest.raises(FileError, match=r"maps of the shape \(2, 2, 3\).*Received: \(3, 2, 3\)"):
        other.set_model(model)


@pytest.mark.parametrize("wrong", [{"momentum": 1.0}, {"expected_positives": 0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        averages(foretold()[0], **wrong)


def test_a_real_model_is_averaged_over_whole_images():
    model = small_classifier()
    model.compile(run_eagerly=True)
    found = averages(model, spatial=True)
    found.on_epoch_end(0)
    outputs = model.explain(small_images())
    targets = found.targets(np.arange(4))
    np.testing.assert_allclose(targets["average"], outputs["probabilities"], atol=1e-5)
    heat = 1 / (1 + np.exp(-outputs["score_maps"]))
    np.testing.assert_allclose(targets["average_maps"], heat, atol=1e-3)


# === crop_maps ===


@pytest.mark.parametrize("mirrored", [0, 1])
def test_maps_are_cut_as_pillow_cuts_images(mirrored):
    random = np.random.default_rng(0)
    maps = random.random((3, 6, 8, 2)).astype("float32")
    crops = np.array([[0, 0, 1, 1], [0.1, 0.3, 0.9, 0.8], [0.45, 0, 1, 0.7]])
    found = crop_maps(maps, np.column_stack([crops, np.full(3, mirrored)]))
    for image in range(3):
        top, left, bottom, right = crops[image]
        box = (left * 8, top * 6, right * 8, bottom * 6)
        for label in range(2):
            whole = Image.fromarray(maps[image, ..., label], mode="F")
            cut = np.asarray(whole.resize((8, 6), Image.Resampling.BILINEAR, box=box))
            expected = cut[:, ::-1] if mirrored else cut
            np.testing.assert_allclose(found[image, ..., label], expected, atol=1e-5)


def test_a_map_of_one_place_stays_what_it_is():
    maps = np.full((1, 1, 1, 2), 0.25, "float32")
    np.testing.assert_allclose(crop_maps(maps, [[0.2, 0.3, 0.6, 0.9, 1]]), maps)

import dataclasses

import keras
import numpy as np
import pytest
from backend import FEW_STEPS
from PIL import Image

from keras_patchpu.datasets import FileBatches, ImageError, ImageFiles


def numbered(folder, count=10):
    """Images of one grey each, 10 times their number."""
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.png")
        Image.new("RGB", (6, 4), (10 * number,) * 3).save(paths[-1])
    labels = np.eye(count, dtype="int8")
    names = [path.name for path in paths]
    return ImageFiles(names, paths, labels, tuple(f"label {n}" for n in range(count)))


def numbers_of(batches):
    """The numbers of the images of an epoch, batch by batch; labels say the same."""
    result = []
    for images, labels in (batches[index] for index in range(len(batches))):
        assert images.shape[1:] == (8, 8, 3) and images.dtype == np.uint8
        assert images.min(axis=(1, 2, 3)).tolist() == images.max(axis=(1, 2, 3)).tolist()
        numbers = (images[:, 0, 0, 0] // 10).tolist()
        assert numbers == labels.argmax(1).tolist()
        result.append(numbers)
    return result


def test_without_a_seed_in_the_order_of_the_files(tmp_path):
    batches = FileBatches(numbered(tmp_path), (8, 8), 4)
    assert numbers_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    batches.on_epoch_end()
    assert numbers_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_the_order_depends_on_seed_and_epoch_only(tmp_path, cache_bytes):
    files = numbered(tmp_path)

    def batches(seed, epoch):
        return FileBatches(files, (8, 8), 4, seed=seed, epoch=epoch, cache_bytes=cache_bytes)

    run = batches(3, 0)
    first = numbers_of(run)
    run.on_epoch_end()
    second = numbers_of(run)
    assert sorted(sum(first, [])) == list(range(10)) and first != second
    assert numbers_of(batches(3, 1)) == second  # as a resumed run sees it
    assert numbers_of(batches(4, 0)) != first
    assert sum(first, []) == np.random.default_rng([3, 0]).permutation(10).tolist()


def test_fit_sees_the_same_batches_with_any_number_of_threads(tmp_path):
    files = numbered(tmp_path)

    def trained(workers):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
        )
        # A large rate: another order of the batches gives other weights.
        model.compile(keras.optimizers.SGD(1e-4), "mse", **FEW_STEPS)
        batches = FileBatches(files, (8, 8), 4, seed=1, cache_bytes=0, workers=workers)
        model.fit(batches, epochs=3, shuffle=False, verbose=0)
        return keras.ops.convert_to_numpy(model.layers[-1].kernel)

    one = trained(1)
    np.testing.assert_allclose(trained(4), one, rtol=1e-4, atol=1e-6)


def test_the_cache_holds_what_was_read(tmp_path):
    files = numbered(tmp_path)
    kept = FileBatches(files, (8, 8), 4, cache_bytes=10 * 8 * 8 * 3)
    read_again = FileBatches(files, (8, 8), 4, cache_bytes=10 * 8 * 8 * 3 - 1)
    before = numbers_of(kept)
    assert numbers_of(read_again) == before
    for path in files.sources:
        path.unlink()
    assert numbers_of(kept) == before
    with pytest.raises(ImageError, match="0.png"):
        read_again[0]


def test_augmentation_repeats_for_the_same_epoch(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    files = ImageFiles(["a"], [tmp_path / "a.png"], np.ones((1, 1), "int8"), ("x",))

    def image(seed, epoch):
        return FileBatches(files, (8, 8), 4, seed=seed, epoch=epoch, augment=True)[0][0]

    np.testing.assert_array_equal(image(0, 0), image(0, 0))
    assert (image(0, 0) != image(0, 1)).any()
    assert (image(0, 0) != image(1, 0)).any()
    with pytest.raises(ValueError, match="`seed`"):
        FileBatches(files, (8, 8), 4, augment=True)


def test_two_batches_are_read_ahead_and_no_more(tmp_path):
    files, asked = numbered(tmp_path), []

    class Sources(list):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    files = dataclasses.replace(files, sources=Sources(files.sources))
    batches = FileBatches(files, (8, 8), 2, cache_bytes=0, workers=1)
    batches[0]
    batches.on_epoch_end()  # closes what is under way: what a thread had begun is done
    assert set(asked) >= {0, 1} and len(asked) == len(set(asked)) and max(asked) <= 5


def test_any_order_and_again_after_an_image_that_cannot_be_read(tmp_path):
    files = numbered(tmp_path)
    batches = FileBatches(files, (8, 8), 4, cache_bytes=0)
    found = [batches[index][0][:, 0, 0, 0].tolist() for index in (2, 0, 0, 1, 2)]
    first, second, third = [0, 10, 20, 30], [40, 50, 60, 70], [80, 90]
    assert found == [third, first, first, second, third]
    content = files.sources[5].read_bytes()
    files.sources[5].write_bytes(b"")
    with pytest.raises(ImageError, match="5.png: the file is empty"):
        batches[1]
    assert batches[2][0][:, 0, 0, 0].tolist() == third
    files.sources[5].write_bytes(content)
    assert batches[1][0][:, 0, 0, 0].tolist() == second


def test_check_shows_how_far_it_is_where_it_is_wanted(tmp_path, capsys):
    files = numbered(tmp_path)
    FileBatches(files, (8, 8), 4).check(verbose=False)
    assert capsys.readouterr() == ("", "")
    FileBatches(files, (8, 8), 4).check()
    output, errors = capsys.readouterr()
    assert output == "" and "10/10" in errors


def test_check_names_every_broken_image(tmp_path):
    files = numbered(tmp_path, 30)
    FileBatches(files, (8, 8), 4).check(verbose=False)
    for number in range(5, 17):
        (tmp_path / f"{number}.png").write_bytes(b"text" if number == 5 else b"")
    with pytest.raises(ImageError) as error:
        FileBatches(files, (8, 8), 4).check(verbose=False)
    message = str(error.value)
    assert message.startswith("12 of 30 images cannot be read")
    assert "5.png: not an image" in message and "6.png: the file is empty" in message
    assert "14.png" in message and "15.png" not in message and message.endswith("and 2 more")


def test_image_files_take_and_check_their_lengths(tmp_path):
    files = numbered(tmp_path)
    some = files.take([7, 2])
    assert some.names == ["7.png", "2.png"] and list(some.sources) == [
        tmp_path / "7.png",
        tmp_path / "2.png",
    ]
    assert some.labels.argmax(1).tolist() == [7, 2] and not some.fully_annotated
    with pytest.raises(ValueError, match="9 names, 10 sources, 10 rows"):
        ImageFiles(files.names[1:], files.sources, files.labels, files.label_names)
    with pytest.raises(ValueError, match="10 `label_names`"):
        ImageFiles(files.names, files.sources, files.labels, ("a",))

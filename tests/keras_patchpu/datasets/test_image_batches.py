import numpy as np
import pytest

from keras_patchpu.datasets import ImageBatches

pytestmark = pytest.mark.no_backend


def batches_of(epoch, seed=1):
    images = np.arange(10)[:, None, None, None]
    batches = ImageBatches(images, images[:, :, 0, 0] * 2, batch_size=4, seed=seed, epoch=epoch)
    return batches, [batches[i] for i in range(len(batches))]


def test_every_image_once_with_its_labels_and_an_incomplete_last_batch():
    _, parts = batches_of(0)
    assert [len(images) for images, _ in parts] == [4, 4, 2]
    images = np.concatenate([images.ravel() for images, _ in parts])
    labels = np.concatenate([labels.ravel() for _, labels in parts])
    assert sorted(images) == list(range(10))
    np.testing.assert_array_equal(labels, images * 2)


def test_a_resumed_run_sees_the_order_it_would_have_seen():
    batches, first = batches_of(0)
    batches.on_epoch_end()
    _, resumed = batches_of(1)
    for index, (images, _) in enumerate(resumed):
        np.testing.assert_array_equal(batches[index][0], images)
    assert any((a[0] != b[0]).any() for a, b in zip(first, resumed))


def test_seed_changes_the_order():
    _, one = batches_of(0, seed=1)
    _, two = batches_of(0, seed=2)
    assert any((a[0] != b[0]).any() for a, b in zip(one, two))


def test_counts_must_agree():
    with pytest.raises(ValueError, match="3 images, 2 rows"):
        ImageBatches(np.zeros((3, 1, 1, 3)), np.zeros((2, 1)), 1, 0)


def test_targets_come_with_the_labels_of_the_same_images():
    images = np.arange(10)[:, None, None, None]
    labels = images[:, :, 0, 0] * 2

    def targets(indices, crops):
        assert crops is None
        return {"image_index": indices, "third": 3 * labels[indices]}

    batches = ImageBatches(images, labels, batch_size=4, seed=1, targets=targets)
    for index in range(3):
        found, y = batches[index]
        np.testing.assert_array_equal(y["image_index"], found.ravel())
        np.testing.assert_array_equal(y["labels"], 2 * found[:, :, 0, 0])
        np.testing.assert_array_equal(y["third"], 6 * found[:, :, 0, 0])


def test_augmented_images_are_the_parts_that_the_targets_are_told_of():
    random = np.random.default_rng(0)
    # A ramp in each direction: its values tell where a part was cut.
    ramp = np.linspace(0, 255, 64)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 0), -1).astype("uint8")
    images, told = np.stack([image] * 6), []
    batches = ImageBatches(
        images,
        random.random((6, 2)),
        batch_size=6,
        seed=1,
        augment=True,
        targets=lambda indices, crops: told.append((indices, crops)) or {},
    )
    parts, _ = batches[0]
    ((indices, crops),) = told
    assert parts.shape == images.shape and parts.dtype == "uint8"
    for part, (top, left, bottom, right, mirrored) in zip(parts, crops):
        assert not mirrored  # digits are not
        assert 0.6 - 1e-6 <= (bottom - top) * (right - left) <= 1
        # Up to the rounding of the part to whole pixels.
        assert part[0, 32, 0] == pytest.approx(255 * top, abs=5)
        assert part[-1, 32, 0] == pytest.approx(255 * bottom, abs=5)
        assert part[32, 0, 1] == pytest.approx(255 * left, abs=5)
        assert part[32, -1, 1] == pytest.approx(255 * right, abs=5)
    assert len({tuple(crop) for crop in crops}) == 6


def test_an_image_is_augmented_anew_each_epoch_and_alike_when_resumed():
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")
    labels = np.zeros((4, 2))

    def batches(epoch):
        return ImageBatches(images, labels, 4, seed=1, epoch=epoch, augment=True)

    going_on = batches(0)
    first = going_on[0][0]
    np.testing.assert_array_equal(first, going_on[0][0])
    going_on.on_epoch_end()
    np.testing.assert_array_equal(going_on[0][0], batches(1)[0][0])
    orders = [batch._order for batch in (batches(0), batches(1))]
    again = [first[np.argsort(orders[0])], going_on[0][0][np.argsort(orders[1])]]
    assert (again[0] != again[1]).any(axis=(1, 2, 3)).all()


def test_pixels_and_labels_are_looked_at_before_training():
    images, labels = np.zeros((3, 2, 2, 3), "float32"), np.zeros((3, 4))
    labels[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN at index \(2, 1\)"):
        ImageBatches(images, labels, 2, 0)
    images[1, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="image of index 1, .* 1 values that are NaN or infinite"):
        ImageBatches(images, labels, 2, 0)

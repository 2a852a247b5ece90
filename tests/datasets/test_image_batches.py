import numpy as np
import pytest

from keras_patchpu.datasets import ImageBatches


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

"""The picture of samples, a row a label."""

import numpy as np
import pytest
from PIL import Image
from tiny_data import write_noise

from keras_patchpu.datasets import ImageFiles
from patchpu.inspection.samples import draw_samples

pytestmark = pytest.mark.no_backend


@pytest.fixture
def ten_labels(tmp_path):
    """Label i is in 10 - i images; the first image of all has the last label too."""
    labels = np.repeat(np.eye(10, dtype="int8"), range(10, 0, -1), axis=0)
    labels[0, 9] = 1
    labels[1, 9] = -1
    sources = []
    for index in range(len(labels)):
        sources.append(tmp_path / f"{index:02d}.png")
        write_noise(sources[-1], (12, 16), seed=index)
    names = ["$x^$", *(f"l{index}" for index in range(1, 10))]
    return ImageFiles([f"dir/{source.name}" for source in sources], sources, labels, tuple(names))


def test_samples(ten_labels):
    figure = draw_samples(ten_labels)
    assert len(figure.axes) == 40
    rows = [figure.axes[start : start + 5] for start in range(0, 40, 5)]
    texts = [row[0].get_ylabel() for row in rows]
    assert texts[:2] == ["$x^$\n10 images", "l1\n9 images"]
    assert texts[7] == "l7\n3 images"
    assert [len(row[4].images) for row in rows] == [1] * 6 + [0, 0]
    firsts = np.cumsum([0, *range(10, 0, -1)])
    for label, row in enumerate(rows):
        titles = [axes.get_title().split("\n")[0] for axes in row if axes.images]
        allowed = {f"{index:02d}.png" for index in range(firsts[label], firsts[label + 1])}
        assert len(set(titles)) == len(titles) == min(5, 10 - label)
        assert set(titles) <= allowed
        for axes in row:
            if axes.images:
                index = int(axes.get_title()[:2])
                with Image.open(ten_labels.sources[index]) as image:
                    np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(image))
    figure.savefig(ten_labels.sources[0].with_name("samples.png"))  # dollars are no formula


def test_samples_name_the_other_labels_and_leave_out(ten_labels):
    only_two = ten_labels.take([0, 1, 2])
    assert len(draw_samples(only_two).axes) == 10
    titles = {axes.get_title() for axes in draw_samples(only_two).axes}
    assert titles == {"00.png\nalso l9", "00.png\nalso $x^$", "01.png", "02.png", ""}
    assert len(draw_samples(only_two, leave_out={"dir/00.png"}).axes) == 5
    assert draw_samples(only_two, leave_out=set(only_two.names)) is None


def test_large_images_are_made_small_and_long_names_cut(tmp_path):
    name = f"{'x' * 30}.png"
    write_noise(tmp_path / name, (900, 450))
    files = ImageFiles([name], [tmp_path / name], np.ones((1, 1), "int8"), ("a b" * 30,))
    axes = draw_samples(files).axes[0]
    assert axes.images[0].get_array().shape == (320, 160, 3)
    assert axes.get_title() == "..." + name[-22:]
    lines = axes.get_ylabel().split("\n")
    assert lines[-1] == "1 image" and len(lines) == 4
    assert max(map(len, lines)) <= 16

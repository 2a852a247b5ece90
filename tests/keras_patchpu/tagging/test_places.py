"""Where a tag is, by hand: regions and heat maps of an attention that is given."""

import keras
import numpy as np
import pytest
from keras import ops
from small import calibrated_classifier
from tagged_images import set_on

from keras_patchpu import PatchClassifier
from keras_patchpu.datasets.read_image import read_image
from keras_patchpu.metrics import attention_heatmap
from keras_patchpu.tagging import Tagger


class Network(keras.Model):
    """Has the same attention for every label and image."""

    def __init__(self, attention):
        super().__init__()
        self.run_eagerly = True
        self.attention = attention

    def part(self, *names):
        return self

    def call(self, images):
        ones = ops.ones((len(images), 3))
        return {"probabilities": ones, "attention": ones[..., None] * self.attention}


@pytest.fixture
def places(model, monkeypatch):
    """A function of an attention and the size of an image to the `Tags` of that image."""

    def found(attention, size, fit="stretch", of=model):
        attention = np.asarray(attention, "float32")
        monkeypatch.setattr(PatchClassifier, "fused", lambda self: Network(attention))
        tagger = Tagger(set_on(of, image_fit=fit), attention=True, batch_size=1)
        (tags,) = tagger([np.zeros((*size, 3), "uint8")])
        return tags

    return found


def region_and_heat(tags):
    return tags.regions.get("cat"), tags.heatmaps["cat"]


def test_attention_on_one_patch(places):
    # 4 patches of 16 pixels, then one over all 32 x 32; the image has 64 x 320.
    region, heat = region_and_heat(places([0, 0, 1, 0, 0], (64, 320)))
    assert region == (32, 0, 64, 160)
    np.testing.assert_array_equal(heat, np.repeat(np.repeat([[0, 0], [1, 0]], 16, 0), 16, 1))
    assert places([0, 0, 0, 0, 1], (64, 320)).regions["cat"] == (0, 0, 64, 320)


@pytest.mark.parametrize(
    "attention, region",
    [
        # Half of the peak belongs to it, less does not.
        ([0.5, 0.25, 0.2, 0.05, 0], (0, 0, 16, 32)),
        # Corners do not connect.
        ([0.5, 0, 0, 0.5, 0], (0, 0, 16, 16)),
        ([0.4, 0, 0, 0.6, 0], (16, 16, 32, 32)),
        ([0.3, 0.3, 0, 0.4, 0], (0, 0, 32, 32)),
        # Level 1 adds to all four: 0.3 and 0.6.
        ([0, 0, 0, 0.3, 0.3], (0, 0, 32, 32)),
    ],
)
def test_regions(places, attention, region):
    assert places(attention, (32, 32)).regions["cat"] == region


def test_pad_is_cut_off(places):
    # 20 x 40 pixels become 16 x 32, with 8 black rows above and below.
    region, heat = region_and_heat(places([0, 1, 0, 0, 0], (20, 40), "pad"))
    assert region == (0, 20, 10, 40)
    np.testing.assert_array_equal(heat, np.repeat(np.repeat([[0, 1], [0, 0]], 8, 0), 16, 1))
    # 40 x 20: 8 black columns left and right.
    assert places([0, 0, 0, 1, 0], (40, 20), "pad").regions["cat"] == (20, 10, 40, 20)
    # 8 x 64 pixels become 4 x 32 in the rows 14 to 18.
    assert places([0, 0, 1, 0, 0], (8, 64), "pad").regions["cat"] == (4, 0, 8, 32)


def test_attention_on_the_black_of_pad_only(places):
    # Patches of 8 pixels in 4 rows; the image lies in the rows 12 to 20.
    model = calibrated_classifier(patch_size=8, num_downsamples=0)
    tags = places(np.eye(16)[0], (8, 32), "pad", of=model)
    assert tags.regions == {}
    assert set(tags.heatmaps) == {"0", "1", "2"} and not tags.heatmaps["0"].any()
    assert tags.heatmaps["0"].shape == (8, 32)


@pytest.mark.parametrize(
    "kwargs", [{}, {"image_size": (50, 70)}, {"image_size": (50, 70), "strides": 9}]
)
def test_heatmaps_are_those_of_attention_heatmap(kwargs, paths):
    model = calibrated_classifier(**({"num_downsamples": 2} | kwargs))
    images = np.stack([read_image(path, model.image_size) for path in paths[:2]])
    attention = model.explain(images)["attention"]
    expected = attention_heatmap(attention, model.patch_boxes, model.image_size, fill="same")
    for found, heatmaps in zip(Tagger(model, attention=True)(paths[:2]), expected):
        assert len(found.heatmaps) == 3
        for tag, heat in found.heatmaps.items():
            np.testing.assert_allclose(heat, heatmaps[int(tag)], atol=1e-4)

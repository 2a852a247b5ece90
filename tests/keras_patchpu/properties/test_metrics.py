"""What holds of the metrics for every input of their domain."""

import drawn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_patchpu.layers import PatchExtractor
from keras_patchpu.metrics import (
    AttentionHeat,
    attention_heatmap,
    average_precision,
    box_average_precision,
    label_metrics,
    localization,
    negatives_quality,
    observed_metrics,
)

SIZE = (20, 28)


@st.composite
def scored(draw):
    """Labels and scores with ties, of extreme and ordinary values."""
    shape = draw(drawn.shapes(images=(1, 2, 9)))
    few = st.sampled_from([0.0, 0.25, 1.0])
    scores = draw(drawn.array(shape, few | drawn.floats(1e4)))
    return draw(drawn.labels(shape)), scores


def average_precision_by_thresholds(present, scores):
    """Sum over falling thresholds of precision times the recall that they add."""
    total, found = 0.0, 0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        now = int((present & chosen).sum())
        total += (now - found) * now / chosen.sum()
        found = now
    return total / present.sum() if present.any() else 0.0


@drawn.MANY
@given(scored())
def test_average_precision_is_the_sum_over_thresholds(example):
    labels, scores = example
    found = average_precision(labels, scores)
    expected = [average_precision_by_thresholds(y > 0, s) for y, s in zip(labels.T, scores.T)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found >= 0).all() and (found <= 1).all()


@drawn.QUICK
@given(scored(), st.data())
def test_average_precision_knows_only_the_order_of_scores(example, data):
    labels, scores = example
    expected = average_precision(labels, scores)
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in scores.T], axis=1)
    images = data.draw(drawn.permutation(len(labels)))
    order = data.draw(drawn.permutation(labels.shape[1]))
    for same in (ranks, drawn.not_contiguous(scores), scores.astype("float64")):
        np.testing.assert_allclose(average_precision(labels, same), expected, rtol=1e-12)
    turned = average_precision(labels[images][:, order], scores[images][:, order])
    np.testing.assert_allclose(turned, expected[order], rtol=1e-12)


@drawn.QUICK
@given(scored())
def test_numbers_of_a_report_are_shares(example):
    labels, scores = example
    found = label_metrics(labels, scores)
    numbers = [found["mAP"], *found["micro"].values(), *found["macro"].values()]
    for each in found["per_label"]:
        numbers += [each[name] for name in ("average_precision", "precision", "recall", "f1")]
    assert all(0 <= number <= 1 for number in numbers)
    assert found["mean_true_labels"] == pytest.approx((labels > 0).sum() / len(labels))
    assert found["labels_without_positives"] == [
        str(number) for number in np.flatnonzero(~(labels > 0).any(axis=0))
    ]


@drawn.QUICK
@given(scored())
def test_ranks_are_between_the_first_and_the_last(example):
    labels, scores = example
    if not (labels > 0).any():
        with pytest.raises(ValueError, match="at least one label known present"):
            observed_metrics(labels, scores)
        return
    found = observed_metrics(labels, scores)
    assert 1 <= found["mean_rank"] <= labels.shape[1]
    assert 1 / labels.shape[1] <= found["mean_reciprocal_rank"] <= 1
    assert all(0 <= share <= 1 for share in found["recall_at"].values())


@pytest.mark.parametrize("metric", [average_precision, label_metrics, observed_metrics])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error(metric, value):
    scores = np.full((2, 3), 0.5)
    scores[1, 2] = value
    with pytest.raises(ValueError, match="finite `scores`.*1 values of NaN or infinity"):
        metric(np.ones((2, 3)), scores)


@pytest.mark.parametrize("metric", [average_precision, label_metrics, observed_metrics])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_image_or_no_label_is_an_error(metric, shape):
    with pytest.raises(ValueError, match="neither being 0"):
        metric(np.zeros(shape), np.zeros(shape))


@drawn.QUICK
@given(st.data())
def test_quality_of_negatives_is_a_share(data):
    shape = data.draw(drawn.shapes())
    weights = data.draw(drawn.array(shape, st.floats(0, 1, width=32)))
    true, observed = data.draw(drawn.labels(shape)), data.draw(drawn.labels(shape))
    if (observed != 0).all():
        with pytest.raises(ValueError, match="at least one unobserved"):
            negatives_quality(weights, true, observed)
        return
    found = negatives_quality(weights, true, observed)
    # (A mean of float64 may pass 1 by a rounding.)
    assert all(value is None or -1e-12 <= value <= 1 + 1e-12 for value in found.values())


@st.composite
def attentions(draw):
    """Attention of some images and labels over patches that overlap or leave a rim."""
    extractor = PatchExtractor(8, num_downsamples=1, strides=draw(st.sampled_from([4, 8])))
    boxes = extractor.grid(SIZE).boxes
    shape = draw(drawn.shapes(images=(1, 2), labels=(1, 3)))
    values = draw(drawn.array((*shape, len(boxes)), st.sampled_from([0.0, 0.125, 0.5, 1.0])))
    sums = values.sum(axis=-1, keepdims=True)
    return values / np.where(sums > 0, sums, 1), boxes


@drawn.QUICK
@given(attentions())
def test_heat_maps_keep_the_mass_of_attention(example):
    attention, boxes = example
    pixels = attention_heatmap(attention, boxes, SIZE)
    assert (pixels >= 0).all()
    np.testing.assert_allclose(pixels.sum(axis=(-2, -1)), attention.sum(axis=-1), atol=1e-5)
    rows, columns = map(np.ravel, np.indices(attention.shape[:2]))
    _, masses = AttentionHeat(attention, boxes, SIZE)(rows, columns)
    np.testing.assert_allclose(masses.sum(axis=(1, 2)), attention.sum(axis=-1).ravel(), atol=1e-5)


@drawn.QUICK
@given(attentions(), st.data())
def test_localisation_is_a_share(example, data):
    attention, patch_boxes = example
    shape = attention.shape[:2]
    heat = AttentionHeat(
        attention, patch_boxes, SIZE, combine=data.draw(st.sampled_from(["sum", "product"]))
    )
    corners = np.sort(data.draw(drawn.array((*shape, 2, 2), st.floats(0, 1, width=32))), axis=2)
    boxes = corners.reshape(*shape, 4)
    corners[0, 0] = [[0.0, 0.25], [0.5, 1.0]]  # one that has an area at least
    labels = np.maximum(data.draw(drawn.labels(shape)), 0)
    labels[0, 0] = 1
    found = localization(heat, labels, boxes)
    for name in ("peak_in_box", "attention_in_box", "box_area"):
        assert -1e-6 <= found[name] <= 1 + 1e-6, name
    assert found["labels"] + found["labels_without_box"] == labels.sum()
    precision = box_average_precision(heat, np.full(shape, 0.5), labels, boxes)["mean"]
    assert (precision >= 0).all() and (precision <= 1).all()

import keras
import numpy as np
import pytest
from small import small_classifier, small_images, small_labels

from keras_patchpu.callbacks import WeakNegativeQuality
from keras_patchpu.losses import WeakNegative

pytestmark = pytest.mark.usefixtures("few_blocks")


class Embeds(keras.Model):
    """Stands for a model: its "image embeddings" are what is given as images."""

    def explain(self, images, names):
        assert len(images) <= 2 and names == ("image_embeddings",)
        return {"image_embeddings": images}


def test_callback_by_hand():
    # Image 0: label 0 observed; label 1 at 60 degrees of it, label 2 the same, label 3 opposite.
    # Image 1: label 3 observed; 0 and 1 the same, 2 at right angles. Image 2: nothing observed.
    right, up = [1.0, 0.0], [0.0, 1.0]
    slope = [0.5, np.sqrt(0.75)]
    embeddings = np.array(
        [[right, slope, right, [-1.0, 0.0]], [up, up, right, up], [right, right, up, up]], "float32"
    )
    observed = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    true = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]])
    callback = WeakNegativeQuality(embeddings, observed, true, batch_size=2)
    callback.set_model(Embeds())
    logs = {}
    callback.on_epoch_end(0, logs)
    # Absent: 1, 0 of image 0; 1, 1 of image 1; 0, 0, 0 of image 2. Present: 0.5; 0; 0.
    expected = {
        "precision": 3 / 3.5,
        "recall": 3 / 7,
        "mean_weight_absent": 3 / 7,
        "mean_weight_present": 0.5 / 3,
        "auc": 13 / 21,
        "absent_share": 7 / 10,
    }
    assert logs == pytest.approx({f"wn_{name}": value for name, value in expected.items()})
    assert callback.quality == pytest.approx(expected)
    callback.theta = 0.6  # between the two similarities
    callback.on_epoch_end(1, logs)
    assert logs["wn_precision"] == 1.0


def test_callback_in_training():
    images, observed = small_images(), small_labels()
    true = (observed > 0).astype(int)
    true[1, 0] = 1
    model = small_classifier()
    model.compile("sgd", WeakNegative(), run_eagerly=keras.backend.backend() != "jax")
    seen = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    callback = WeakNegativeQuality(images, observed, true, batch_size=3)
    model.fit(images, observed, epochs=1, verbose=0, callbacks=[callback, later])
    # From the trained model's own embeddings: cosine with the one observed label.
    embeddings = model.explain(images)["image_embeddings"]
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    similarity = np.einsum("blf,bf->bl", unit, unit[np.arange(4), np.arange(4) % 3])
    weights, unknown = np.clip(similarity, 0, 1), observed == 0
    absent = unknown & (true == 0)
    assert seen[0]["wn_precision"] == pytest.approx(
        weights[absent].sum() / weights[unknown].sum(), abs=1e-5
    )
    assert seen[0]["wn_recall"] == pytest.approx(weights[absent].mean(), abs=1e-5)


def test_callback_says_nan_where_nothing_is_defined():
    embeddings, labels = np.ones((1, 2, 3), "float32"), np.array([[1, 0]])
    callback = WeakNegativeQuality(embeddings, labels, labels)
    callback.set_model(Embeds())
    logs = {}
    callback.on_epoch_end(0, logs)
    assert np.isnan(logs["wn_auc"]) and callback.quality["auc"] is None
    assert logs["wn_precision"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": -0.5}, "`theta`.*>= 0"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"images": np.ones((3, 2))}, "3 images"),
        ({"labels": np.ones((2, 3))}, r"\(2, 4\), \(2, 3\)"),
    ],
)
def test_callback_refuses(change, message):
    labels = np.array([[1, 0, 0, 0], [0, 0, 1, -1]])
    arguments = {"images": np.ones((2, 2)), "observed": labels, "labels": labels}
    with pytest.raises(ValueError, match=message):
        WeakNegativeQuality(**{**arguments, **change})

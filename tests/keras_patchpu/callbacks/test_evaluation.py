import keras
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from keras_patchpu.callbacks import Evaluation

pytestmark = pytest.mark.usefixtures("few_blocks")


def test_exact_value_in_the_logs_for_later_callbacks():
    random = np.random.default_rng(0)
    # 7 images in batches of 4: the incomplete batch counts.
    images = random.normal(size=(7, 3)).astype("float32")
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [0, 1]])
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    seen = []
    later = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(logs["val_mAP"])
    )
    history = model.fit(
        images,
        labels,
        epochs=2,
        verbose=0,
        callbacks=[Evaluation(images, labels, batch_size=4), later],
    )
    scores = model.predict(images, verbose=0)
    expected = np.mean([average_precision_score(labels[:, i], scores[:, i]) for i in range(2)])
    assert history.history["val_mAP"][-1] == pytest.approx(expected, abs=1e-12)
    assert seen == history.history["val_mAP"]

"""A small classifier and data for it."""

import keras
import numpy as np

from keras_patchpu import PatchClassifier
from keras_patchpu.models import BackboneClassifier, MultiLabelClassifier


def small_classifier(**kwargs):
    """5 patches of 16 pixels of a 32x32 image, 3 labels, 8 features."""
    arguments = {
        "num_labels": 3,
        "image_size": (32, 32),
        "patch_size": 16,
        "num_downsamples": 1,
        "features": 8,
        "hidden_units": 6,
    }
    return PatchClassifier(**(arguments | kwargs))


def calibrated_classifier(**kwargs):
    """A small classifier whose batch norms hold the statistics of `small_images()`.

    Without them an untrained network in inference shrinks every image to nearly nothing.
    """
    model = small_classifier(**kwargs, batch_norm_momentum=0.0)
    model.patch_embedder(model.patch_extractor(small_images()), training=True)
    return model


def functional_classifier():
    """A model of two layers with all that a loss may want, made in a moment; 3 labels."""
    images = keras.Input((32, 32, 3))
    places = keras.layers.Rescaling(1 / 255)(images)
    places = keras.layers.Conv2D(3 * 4, 16, strides=16)(places)
    embeddings = keras.layers.GlobalAveragePooling2D()(places)
    embeddings = keras.layers.Reshape((3, 4))(embeddings)
    score = keras.layers.Dense(1)
    logits = keras.layers.Reshape((3,))(score(embeddings))
    maps = keras.layers.Reshape((2, 2, 3))(score(keras.layers.Reshape((2, 2, 3, 4))(places)))
    outputs = {
        "image_embeddings": embeddings,
        "logits": logits,
        "score_maps": maps,
        "probabilities": keras.layers.Activation("sigmoid")(logits),
    }
    return MultiLabelClassifier(images, outputs)


def small_backbone(size=(32, 32)):
    """From images to a map with a place for each 8x8 pixels, with a batch norm and a dropout."""
    images = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(6, 8, 8, name="cut")(x)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    return keras.Model(images, keras.layers.Dropout(0.5)(x), name="small_backbone")


def small_backbone_classifier(backbone=None, **kwargs):
    """A `BackboneClassifier`, over 4x4 places of 32x32 pixels."""
    arguments = {"num_labels": 3, "features": 5, "hidden_units": 4, "feature_dropout": 0.0}
    return BackboneClassifier(backbone=backbone or small_backbone(), **(arguments | kwargs))


def small_images(count=4, seed=0):
    """uint8 images (count, 32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype("uint8")


def small_labels(count=4):
    """One observed positive an image, and one observed negative."""
    labels = np.zeros((count, 3), "int8")
    labels[np.arange(count), np.arange(count) % 3] = 1
    labels[0, 1] = -1
    return labels


def save_as_run(model, folder):
    """Saves a model where a run has it in its folder; returns its path."""
    path = folder / "last" / "model.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return path


def normalization_of(network):
    """The input normalisation of a stock network, whose name counts earlier ones."""
    return next(layer for layer in network.layers if isinstance(layer, keras.layers.Normalization))

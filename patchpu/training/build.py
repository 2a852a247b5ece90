"""What a run is made of: model, loss and optimizer of the settings."""

import inspect
import os

import keras

from keras_patchpu import backbones
from keras_patchpu.models import BackboneClassifier, PatchClassifier, ResNetClassifier
from keras_patchpu.optimizers import Lamb
from keras_patchpu.utils.validation import FileError
from patchpu.training.losses import LOSSES

# The class of each value of the setting `model`.
MODELS = {"patch": PatchClassifier, "backbone": BackboneClassifier, "resnet": ResNetClassifier}


def make_deterministic():
    """Makes every operation of this process from now on give the same bits when repeated.

    Raises:
        ValueError: The backend can do so only by what its process is started with.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif backend == "torch":
        import torch

        torch.use_deterministic_algorithms(True)
    elif "--xla_gpu_deterministic_ops=true" not in os.environ.get("XLA_FLAGS", ""):
        import jax

        if jax.default_backend() != "cpu":
            raise ValueError(
                "Expected XLA_FLAGS=--xla_gpu_deterministic_ops=true in the environment with "
                f"--deterministic and JAX on a {jax.default_backend()}. Received: none"
            )


def make_model(config, num_labels, label_names=None):
    """The model of the settings, not compiled."""
    common = {
        "num_labels": num_labels,
        "image_size": (config.image_size, config.image_size),
        "batch_norm_momentum": config.batch_norm_momentum,
        "dtype": config.precision,
        "label_names": label_names,
        "image_fit": config.image_fit,
    }
    if config.model == "resnet":
        return ResNetClassifier(
            weights=None if config.resnet_weights == "none" else config.resnet_weights,
            width=config.resnet_width,
            output_stride=config.resnet_output_stride,
            **common,
        )
    initializer = None
    if config.codebook_std is not None:
        initializer = keras.initializers.RandomNormal(stddev=config.codebook_std)
    common |= {
        "num_downsamples": config.num_downsamples,
        "features": config.features,
        "hidden_units": config.hidden_units if config.feed_forward else None,
        "codebook_initializer": initializer,
    }
    if config.model == "backbone":
        return BackboneClassifier(
            backbone=_backbone(config), feature_dropout=config.feature_dropout, **common
        )
    return PatchClassifier(
        patch_size=config.patch_size,
        strides=config.strides,
        max_patches_per_level=config.max_patches_per_level,
        seed=config.seed,
        **common,
    )


def fitted_part(config, model):
    """What of a compiled model is fit: over a frozen backbone what follows it, to its features."""
    if config.model != "backbone":
        return model
    fitted = model.on_features()
    # The same optimizer: a saved model has its state.
    fitted.compile(model.optimizer, model.loss, jit_compile=config.jit_compile)
    return fitted


def _backbone(config):
    size = (config.image_size, config.image_size)
    try:
        return backbones.load(
            config.backbone,
            size if config.num_downsamples == 0 else None,  # smaller copies go through it, too
            stride=config.backbone_stride,
            weights=None if config.backbone_weights == "none" else config.backbone_weights,
        )
    except FileError as error:
        raise FileError(f"{error}. Or train the paper's network: --model patch") from error


def make_loss(config, expected_positives, num_images, num_labels):
    """The loss of the settings.

    Args:
        config: `TrainConfig`.
        expected_positives: Labels an image, where the settings do not say.
        num_images: Number of training images.
        num_labels: Number of labels.

    Returns:
        A Keras loss.

    Raises:
        ValueError: `loss_arguments` has what the loss does not know, or out of range.
    """
    row = LOSSES[config.loss]
    values = {
        **vars(config),
        "expected_positives": config.expected_positives or expected_positives,
        "num_images": num_images,
        "num_labels": num_labels,
    }
    arguments = {
        **row.arguments,
        **row.arguments_on.get(config.dataset, {}),
        **{argument: values[source] for argument, source in row.takes.items()},
    }
    loss = row.loss_class
    given = config.loss_arguments or {}
    known = list(inspect.signature(loss).parameters)
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(
            f"Expected loss_arguments of {loss.__name__}: {known}. Received: {sorted(unknown)}"
        )
    return loss(**{**arguments, **given})


def make_optimizer(config, steps_per_epoch):
    """LAMB with the rates of the settings."""
    multipliers = {"codebook$": config.codebook_rate}
    exempt = {}
    if LOSSES[config.loss].remembers == "estimated labels":
        multipliers["label_logits$"] = config.estimator_rate
        # Nor does the trust ratio suit them: it would grow with the number of images.
        exempt = {"no_weight_decay": ["label_logits$"]}
    return Lamb(
        make_schedule(config, steps_per_epoch),
        weight_decay=config.weight_decay,
        learning_rate_multipliers=multipliers,
        **exempt,
    )


def make_schedule(config, steps_per_epoch):
    """The learning rate of the settings: a number or a Keras schedule over steps."""
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            config.learning_rate, config.epochs * steps_per_epoch, alpha=0.02
        )
    # The schedule keeps a value up to and including its boundary, and counts from 0.
    boundaries = [epoch * steps_per_epoch - 1 for epoch in (5, 10, 15)]
    rates = [config.learning_rate / 2**halvings for halvings in range(4)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)

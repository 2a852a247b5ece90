"""What a run asks its model, and what the batches give its loss."""

from keras_patchpu.callbacks import (
    Evaluation,
    ObservedEvaluation,
    PredictionAverages,
    PseudoLabels,
    WeakNegativeQuality,
)
from patchpu.training.losses import LOSSES

# Training images whose weak negatives are judged after each epoch.
NUM_JUDGED = 500


def make_evaluation(config, data):
    """Callback that scores the validation images after each epoch."""
    kind = Evaluation if data.fully_annotated else ObservedEvaluation
    return kind(data.validation_images(config), data.validation.labels, batch_size=128)


def make_quality(config, data, loss):
    """Callback that judges the weak negatives of the first training images, or `None`.

    `None` too where the truth is not known, or nothing is left to guess.
    """
    observed, labels = data.observed[:NUM_JUDGED], data.true_training_labels
    guesses = LOSSES[config.loss].weak_negatives
    if not guesses or labels is None or not (observed == 0).any():
        return None
    return WeakNegativeQuality(
        data.first_training_images(config, len(observed)),
        observed,
        labels[: len(observed)],
        # Below 0 a weight is no share of a negative: such weights count as 0.
        theta=max(0.0, loss.theta),
        batch_size=config.batch_size,
    )


def make_memory(config, data, folder):
    """What keeps for the loss what it wants to know of earlier epochs, or `None`.

    Args:
        config: `TrainConfig`.
        data: `RunData`.
        folder: `RunFolder`; large arrays lie in it while it trains.
    """
    row = LOSSES[config.loss]
    if row.remembers == "pseudo-labels":
        return PseudoLabels(
            data.training_images(config),
            data.observed,
            config.epochs,
            config.pseudo_label_warmup,
            config.pseudo_label_share,
            batch_size=128,
        )
    if not row.averages_predictions:
        return None
    return PredictionAverages(
        data.training_images(config),
        data.observed,
        config.expected_positives or data.expected_positives,
        config.average_momentum,
        spatial=row.remembers == "average maps",
        folder=folder / ".tmp-memory",
        batch_size=128,
    )


def loss_targets(loss, memory):
    """Function that gives what the loss wants of the data besides their labels, or `None`.

    Args:
        loss: The loss of the model.
        memory: Of `make_memory`.
    """
    wanted = set(loss.needs)
    if memory is None and "image_index" not in wanted:
        return None

    def targets(indices, crops):
        found = {"image_index": indices}
        if memory is not None:
            found.update(memory.targets(indices, crops))
        return {name: values for name, values in found.items() if name in wanted}

    return targets

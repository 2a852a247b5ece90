"""What a row of the table of losses holds."""

import dataclasses
import pkgutil
from collections.abc import Mapping
from typing import Literal

# Which labels of the training images a loss is given.
Observed = Literal[
    "all labels",
    "one positive",
    "one positive and one negative",
    "one positive and all negatives",
]
# What a run keeps of its training images from step to step, or from epoch to epoch, for a loss.
Memory = Literal[
    "nothing",
    "averages",  # of the predictions, which tell the expected negatives
    "average maps",  # the same, and averages of the score maps
    "pseudo-labels",
    "estimated labels",  # weights of the loss, with a learning rate of their own
    "corrections",  # weights of the loss
]
# Settings that a memory reads, beside those that a loss takes as arguments.
_SETTINGS_OF_MEMORY = {
    "averages": ("expected_positives", "average_momentum"),
    "average maps": ("expected_positives", "average_momentum"),
    "pseudo-labels": ("pseudo_label_share", "pseudo_label_warmup"),
    "estimated labels": ("estimator_rate",),
}


@dataclasses.dataclass(frozen=True)
class LossRow:
    """What is known of one loss.

    Attributes:
        name: The word of the setting `loss`.
        title: Its name in words.
        sentence: What it does, in one sentence.
        paper: Who proposed it, where.
        path: Its class, as `keras_patchpu.losses.FILE.CLASS`. A string, since its module imports
            Keras, for which `patchpu train --help` would wait.
        arguments: Arguments of the class that are always the same.
        arguments_on: Further ones by the name of a data set.
        takes: From arguments of the class to what gives their values: a setting, or `num_images`,
            `num_labels`, `expected_positives` of the training data.
        observes: Which labels it is given.
        remembers: What a run keeps for it.
        adds_to_step: Whether a step takes longer than with sums over `(B, L)`: it wants more of
            the model than logits and probabilities, or has weights of its own.
        weak_negatives: Whether it guesses weak negatives, which a run then judges.
    """

    name: str
    title: str
    sentence: str
    paper: str
    path: str
    arguments: Mapping = dataclasses.field(default_factory=dict)
    arguments_on: Mapping = dataclasses.field(default_factory=dict)
    takes: Mapping = dataclasses.field(default_factory=dict)
    observes: Observed = "one positive"
    remembers: Memory = "nothing"
    adds_to_step: bool = False
    weak_negatives: bool = False

    @property
    def loss_class(self):
        """The class; imports its module."""
        return pkgutil.resolve_name(self.path)

    @property
    def settings(self):
        """Names of the settings and numbers of the data that only some losses read."""
        return {*self.takes.values(), *_SETTINGS_OF_MEMORY.get(self.remembers, ())}

    @property
    def averages_predictions(self):
        return self.remembers in ("averages", "average maps")

    @property
    def remembers_in_files(self):
        """Whether what it remembers lies in files of the run folder, beside the model."""
        return self.averages_predictions or self.remembers == "pseudo-labels"

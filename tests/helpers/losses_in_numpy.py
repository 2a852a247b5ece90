"""Losses worked out in NumPy, `(B, L)` each, from labels, log-odds and the epoch."""

import numpy as np

EPSILON = 1e-5
TAU = 0.1  # of SPLC; not the 0.6 of the paper, which no untrained model reaches
LARGE_LABELS = 8  # labels of large loss in epoch 1: 0.05 of 16 images' 10 labels


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def crossentropies(logits):
    """-log(p + epsilon) and -log(1 - p + epsilon)."""
    return -np.log(sigmoid(logits) + EPSILON), -np.log(1 - sigmoid(logits) + EPSILON)


def of_observed(labels, logits, epoch):
    present, absent = crossentropies(logits)
    return np.where(labels > 0, present, np.where(labels < 0, absent, 0))


def assumed_negatives(labels, logits, epoch):
    present, absent = crossentropies(logits)
    return np.where(labels > 0, present, absent)


def smoothed(labels, logits, epoch):
    present, absent = crossentropies(logits)
    return np.where(labels > 0, 0.9 * present + 0.1 * absent, 0.1 * present + 0.9 * absent)


def weak_assumed_negatives(labels, logits, epoch):
    present, absent = crossentropies(logits)
    return np.where(labels > 0, present, absent / 9)


def pairwise_ranking(labels, logits, epoch):
    p, losses = sigmoid(logits), np.zeros(labels.shape)
    for image, positive in np.argwhere(labels > 0):
        for other in np.flatnonzero(labels[image] <= 0):
            losses[image, positive] += max(0, 1 - p[image, positive] + p[image, other])
    return losses


def entropy_maximization(labels, logits, epoch, pseudo=None):
    present, absent = crossentropies(logits)
    entropy = sigmoid(logits) * present + (1 - sigmoid(logits)) * absent
    losses = np.where(labels > 0, present, -0.1 * entropy)
    if pseudo is not None and epoch:
        losses = np.where(pseudo > 0, 0.9 * (pseudo * present + (1 - pseudo) * absent), losses)
    return losses


def large_loss(instead):
    def losses(labels, logits, epoch):
        present, absent = np.logaddexp(0, -logits), np.logaddexp(0, logits)
        values = np.where(labels > 0, present, absent)
        ranked = np.sort(np.where(labels == 0, logits, -np.inf).ravel())
        largest = (labels == 0) & (logits >= ranked[-int(LARGE_LABELS)])
        return np.where(largest & (epoch > 0), instead * present, values)

    return losses


def hill(labels, logits, epoch):
    p, shifted = sigmoid(logits), sigmoid(logits - 1)
    return np.where(labels > 0, -((1 - shifted) ** 2) * np.log(shifted), (1.5 - p) * p**2)


def self_paced(labels, logits, epoch):
    p, shifted = sigmoid(logits), sigmoid(logits - 1)
    corrected = (labels == 0) & (p > TAU) & (epoch >= 1)
    unknown = np.where(corrected, -((1 - p) ** 2) * np.log(p), -(p**2) * np.log(1 - p))
    return np.where(labels > 0, -((1 - shifted) ** 2) * np.log(shifted), unknown)


def asymmetric(labels, logits, epoch):
    shifted = np.maximum(sigmoid(logits) - 0.05, 0)
    negative = -(shifted**4) * np.log(1 - shifted)
    return np.where(labels > 0, -np.log(sigmoid(logits)), negative)


def generalized_robust(labels, logits, epoch):
    # Of two epochs: w from 0 to 2, b always -2, mu from 0.5 to 0.8, sigma from 2 to 0.5.
    p, share, next_share = sigmoid(logits), epoch / 2, (epoch + 1) / 2
    target = sigmoid(2 * share * p - 2)
    weight = np.exp(-((p - 0.5 - 0.3 * next_share) ** 2) / 2 / (2 - 1.5 * next_share) ** 2)
    unknown = weight * (target * (1 - p**0.01) / 0.01 + (1 - target) * p)
    return np.where(labels > 0, -np.log(p), unknown)


# By the name in the settings: the function, and whether labels are summed, not averaged.
IN_NUMPY = {
    "bce": (of_observed, True),
    "an": (assumed_negatives, False),
    "iu": (of_observed, False),
    "iun": (of_observed, False),
    "bce_ls": (smoothed, False),
    "an_ls": (smoothed, False),
    "wan": (weak_assumed_negatives, False),
    "pr": (pairwise_ranking, False),
    "em": (entropy_maximization, False),
    "em_apl": (entropy_maximization, False),
    "ll_r": (large_loss(0.0), False),
    "ll_ct": (large_loss(1.0), False),
    "ll_cp": (large_loss(1.0), False),
    "hill": (hill, True),
    "splc": (self_paced, True),
    "asl": (asymmetric, True),
    "gr": (generalized_robust, False),
}
CHANGE_IN_EPOCH_1 = {"em_apl", "ll_r", "ll_ct", "ll_cp", "splc", "gr"}


def targets_by_hand(labels, predicted):
    """Targets q of EM+APL after the first of two epochs: 0.9 of the unknown; 0 for the others."""
    targets = np.zeros(labels.shape)
    for label in range(labels.shape[1]):
        unknown = np.flatnonzero(labels[:, label] == 0)
        count = int(0.9 * len(unknown))
        chosen = sorted(unknown, key=lambda image, label=label: predicted[image, label])[:count]
        targets[chosen, label] = predicted[chosen, label]
    return targets

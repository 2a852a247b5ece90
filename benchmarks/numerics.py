"""Compares losses and head with float64 formulas, from log-odds of -10,000 to 10,000.

    python benchmarks/numerics.py --out benchmarks/results/numerics.csv

Each formula is written down here once more, in NumPy, for one label, and differentiated by
complex steps. Inputs are rounded to the dtype first, so that the errors are those of the
computation. A loss gets them in three ways: in float32, in half precision ("float16",
"bfloat16": the loss, of Keras's default dtype, computes in float32), and with a dtype of its
own ("float16 loss"). A relative error counts where the exact value is at least the smallest
normal number of the result's dtype. "inf": the exact value is beyond that dtype; "nan" would be
a mistake.
"""

import argparse
import csv
import pathlib
import sys

import keras
import ml_dtypes
import numpy as np
from keras import ops

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from keras_patchpu import layers, losses  # noqa: E402
from tests.helpers.backend import gradient, numpy  # noqa: E402

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
COLUMNS = ("what", "dtype", "range", "worst absolute error", "worst relative error", "where")
STEP = 1e-30  # of the complex steps
EPSILON = 1e-5


def logits_of(dtype):
    """Log-odds of both signs: tiny ones, everyday ones, and where float32's exp ends."""
    tiny = ml_dtypes.finfo(dtype)
    small = [0, float(tiny.smallest_subnormal), float(tiny.tiny), 1e-8, 1e-6, 1e-4, 1e-3, 1e-2]
    large = [10, 16, 17, 20, 30, 50, 80, 87, 88, 89, 100, 103, 104, 200, 1e3, 5e3, 1e4]
    values = np.concatenate([small, np.linspace(0.05, 9, 60), large])
    return rounded(np.concatenate([-values[::-1], values]), dtype)


def probabilities_of(dtype):
    """0, 1, their neighbours, the smallest numbers, and everything between."""
    tiny = ml_dtypes.finfo(dtype)
    ends = [0, float(tiny.smallest_subnormal), float(tiny.tiny), 1e-30, 1e-10, 1e-6, 1e-5, 1e-4]
    near_one = [1 - float(tiny.epsneg), 1 - 1e-6, 1 - 1e-5, 1 - 1e-4, 1]
    return rounded(np.concatenate([ends, np.linspace(0.001, 0.999, 61), near_one]), dtype)


def rounded(values, dtype):
    return np.unique(np.asarray(values).astype(dtype)).astype("float64")


# === Elementary functions of x + i STEP: the imaginary part is STEP times the derivative ===


def apply(function, slope, x):
    """`function(x)`, where `slope` is its derivative."""
    if not np.iscomplexobj(x):
        return function(x)
    return function(x.real) + 1j * slope(x.real) * x.imag


def log(x):
    return apply(np.log, lambda x: 1 / x, x)


def expm1(x):
    return apply(np.expm1, np.exp, x)


def sigmoid(x):
    def value(x):
        return np.exp(-np.logaddexp(0, -x))

    return apply(value, lambda x: value(x) * value(-x), x)


def softplus(x):
    return apply(lambda x: np.logaddexp(0, x), lambda x: np.exp(-np.logaddexp(0, -x)), x)


# === Formulas of one label: y is 1, 0 or -1, z log-odds or p a probability ===

WEIGHT = 0.6  # of the weak negative
EXPECTED, AVERAGE, ESTIMATE, COUNT, EPOCH = 1.0, 0.25, 0.3, 1.38, 2.0


def crossentropy(present, absent, p):
    return -present * log(p + EPSILON) - absent * log(1 - p + EPSILON)


def focal(z):
    return np.square(sigmoid(-z)) * softplus(-z)


def asymmetric(y, z):
    p = np.maximum(np.real(sigmoid(z)) - 0.05, 0)
    margin = np.where(np.real(z) > np.log(0.05 / 0.95), -log(sigmoid(-z) + 0.05), 0)
    return softplus(-z) if y > 0 else p**4 * margin


def robust(y, z):
    if y:
        return softplus(-y * z)
    p = np.real(sigmoid(z))
    # Epoch 2 of 10: shares of 0.2 and 0.3 of the way.
    k = sigmoid(0.4 * p - 2.0)
    v = np.exp(-0.5 * ((p - 0.59) / 1.55) ** 2)
    return v * (-k * expm1(-0.01 * softplus(-z)) / 0.01 - (1 - k) * expm1(-softplus(z)))


def corrected(y, z):
    """SPLC after its first epoch: an unknown label above 0.6 counts as present."""
    if y > 0:
        return focal(z - 1)
    return np.where((y == 0) & (np.real(sigmoid(z)) > 0.6), focal(z), focal(-z))


def hill(y, z):
    return focal(z - 1) if y > 0 else (1.5 - sigmoid(z)) * np.square(sigmoid(z))


def entropy(y, p):
    if y:
        return crossentropy(y > 0, y < 0, p)
    return -0.1 * crossentropy(p, 1 - p, p)


def role(y, p):
    q, z = ESTIMATE, np.real(p)
    network = crossentropy((y > 0) + q, 1 - q, p) + np.square(p - COUNT)
    return 0.5 * (network + crossentropy((y > 0) + z, 1 - z, q) + (q - COUNT) ** 2)


# Name: class, arguments, formula.
OF_LOGITS = {
    "WeakNegative": (losses.WeakNegative, {}, None),
    "AsymmetricLoss": (losses.AsymmetricLoss, {}, asymmetric),
    "GeneralizedRobust": (losses.GeneralizedRobust, {"num_epochs": 10}, robust),
    "Hill": (losses.Hill, {}, hill),
    "SelfPacedLossCorrection": (losses.SelfPacedLossCorrection, {}, corrected),
    "LargeLoss": (
        losses.LargeLoss,
        {"relative_increase": 0.0},
        lambda y, z: softplus(-z if y > 0 else z),
    ),
}
OF_PROBABILITIES = {
    "BinaryCrossentropy": (
        losses.BinaryCrossentropy,
        {},
        lambda y, p: crossentropy(y > 0, y < 0, p),
    ),
    "AssumeNegative": (losses.AssumeNegative, {}, lambda y, p: crossentropy(y > 0, y <= 0, p)),
    "ExpectedPositiveRegularization": (
        losses.ExpectedPositiveRegularization,
        {"expected_positives": COUNT},
        lambda y, p: crossentropy(y > 0, y < 0, p) + np.square(p - COUNT),
    ),
    "EntropyMaximization": (losses.EntropyMaximization, {}, entropy),
    "PairwiseRanking": (losses.PairwiseRanking, {}, None),
    "ExpectedNegative": (
        losses.ExpectedNegative,
        {},
        lambda y, p: crossentropy(y > 0, y <= 0, p),
    ),
    "ExpectedNegative(predictions)": (
        losses.ExpectedNegative,
        {"consistency": "predictions", "distance": "crossentropy"},
        lambda y, p: crossentropy((y > 0) + AVERAGE, (y <= 0) + 1 - AVERAGE, p),
    ),
    "ExpectedNegative(score_maps)": (
        losses.ExpectedNegative,
        {"consistency": "score_maps"},
        # One place, of log-odds 0.
        lambda y, p: crossentropy(y > 0, y <= 0, p) + (0.5 - AVERAGE) ** 2,
    ),
    "RegularizedOnlineLabelEstimation": (
        losses.RegularizedOnlineLabelEstimation,
        {"num_images": 1, "num_labels": 1, "expected_positives": COUNT},
        role,
    ),
}
# Two labels, of which the first is observed present, the second unknown.
PAIRS = {
    "WeakNegative": lambda z, other: softplus(-z) + WEIGHT * softplus(other),
    "PairwiseRanking": lambda p, other: (1 - p + other) / 2,
}
LABELS = (1, 0, -1)
# The batch enters by its mean: here three images of one probability, and of the three labels.
OF_BATCH = {"ExpectedPositiveRegularization", "RegularizedOnlineLabelEstimation"}


def cases_of(name, formula, values):
    """Labels and inputs `(N, L)` in float64, exact losses `(N,)` and gradients `(N, L)`."""
    if name in PAIRS:
        inputs = np.stack([values, np.roll(values, len(values) // 3)], axis=1)
        inputs = np.concatenate([inputs, np.stack([values, values], axis=1)])  # ties
        labels = np.tile([1, 0], (len(inputs), 1))
        exact = PAIRS[name](*inputs.T)
        step = 1j * STEP
        slopes = [PAIRS[name](inputs[:, 0] + step, inputs[:, 1])]
        slopes += [PAIRS[name](inputs[:, 0], inputs[:, 1] + step)]
        return labels, inputs, exact, np.stack([np.imag(s) / STEP for s in slopes], axis=1)

    def of_labels(x):
        return np.stack([formula(y, x) * np.ones(len(values)) for y in LABELS], axis=1).ravel()

    labels, inputs = np.tile(LABELS, len(values)), np.repeat(values, len(LABELS))
    slopes = np.imag(of_labels(values + 1j * STEP)) / STEP
    return labels[:, None], inputs[:, None], np.real(of_labels(values)), slopes[:, None]


def predictions(loss, inputs, of_sigmoid=False):
    """What the loss takes for a tensor of its inputs."""
    count, num_labels = inputs.shape
    if not loss.needs:
        return ops.sigmoid(inputs) if of_sigmoid else inputs
    half_way = np.tile([[1.0, 0.0], [WEIGHT, 0.8]], (count, 1, 1))  # cosine WEIGHT
    given = {
        "image_embeddings": half_way.astype("float32"),
        "epoch": np.float32(EPOCH),
        "expected_negatives": np.full((count, num_labels), EXPECTED, "float32"),
        "average": np.full((count, num_labels), AVERAGE, "float32"),
        "score_maps": np.zeros((count, 1, 1, num_labels), "float32"),
        "average_maps": np.full((count, 1, 1, num_labels), AVERAGE, "float32"),
        "image_index": np.zeros(count, "int32"),
        "logits": inputs,
        "probabilities": ops.sigmoid(inputs) if of_sigmoid else inputs,
    }
    return {name: given[name] for name in loss.needs}


def measure_loss(name, dtype, own_dtype=False, of_sigmoid=False):
    """Worst errors of value and gradient of a loss.

    Args:
        name: Of the loss in the tables above.
        dtype: Of the inputs, a name.
        own_dtype: Whether the loss computes in that dtype. Defaults to `False`: in float32.
        of_sigmoid: Whether a loss of probabilities is fed the sigmoid of log-odds, and
            differentiated by them. Defaults to `False`.

    Returns:
        Two rows of the table.
    """
    cls, arguments, formula = {**OF_LOGITS, **OF_PROBABILITIES}[name]
    of_logits = name in OF_LOGITS or of_sigmoid
    values = (logits_of if of_logits else probabilities_of)(DTYPES[dtype])
    if of_sigmoid:
        plain = formula

        def formula(y, z):
            return plain(y, sigmoid(z))

    labels, inputs, exact, slopes = cases_of(name, formula, values)
    loss = cls(**arguments, reduction="sum", dtype=dtype if own_dtype else None)
    each = cls(**arguments, reduction=None, dtype=dtype if own_dtype else None)
    for one in (loss, each):
        if name == "RegularizedOnlineLabelEstimation":
            one.estimator.label_logits.assign([[np.log(ESTIMATE / (1 - ESTIMATE))]])
    found, found_slopes = [], []
    size = len(LABELS) if name in OF_BATCH else len(inputs)
    for start in range(0, len(inputs), size):
        part, now = slice(start, start + size), labels[start : start + size].astype("int8")
        tensor = ops.cast(ops.convert_to_tensor(inputs[part].astype("float32")), dtype)
        found.append(numpy(each(now, predictions(each, tensor, of_sigmoid))))
        found_slopes.append(
            gradient(lambda x, now=now: loss(now, predictions(loss, x, of_sigmoid)), tensor)
        )
    where = [
        f"{'logit' if of_logits else 'p'} {', '.join(f'{v:.6g}' for v in row)}, "
        f"label {', '.join(map(str, label))}"
        for row, label in zip(inputs, labels)
    ]
    label = f"{name} of {'log-odds' if of_logits else 'probabilities'}"
    names = dtype + (" loss" if own_dtype else "")
    span = f"{inputs.min():g} to {inputs.max():g}"
    slope_where = np.repeat(where, inputs.shape[1])
    return [
        row(
            f"{label}: value",
            names,
            span,
            np.concatenate(found),
            exact,
            where,
            dtype if own_dtype else "float32",
        ),
        row(
            f"{label}: gradient",
            names,
            span,
            np.concatenate(found_slopes).ravel(),
            slopes.ravel(),
            slope_where,
            dtype,
        ),
    ]


def measure_head(policy):
    """Worst errors of log p and log(1 - p) of the head under a dtype policy."""
    dtype = policy.removeprefix("mixed_")
    values = logits_of(DTYPES[dtype])
    random = np.random.default_rng(0)
    scores = random.choice(values, (400, 4, 4))  # label, then all scores of its embedding
    scores[:50] = scores[:50, :, :1]  # all tied
    scores[50:100, :, 1:] = scores[50:100, :, 1:2]
    head = layers.SharedSoftmaxHead(4, dtype=policy)
    head.build((None, 4, 4))
    head.kernel.assign(np.eye(4))
    embeddings = ops.cast(ops.convert_to_tensor(scores.astype("float32")), dtype)
    logits = numpy(head(embeddings, return_logits=True)[1])
    own = np.diagonal(scores, axis1=1, axis2=2)
    others = np.stack([np.delete(scores[:, k], k, axis=1) for k in range(4)], axis=1)
    exact = own - np.logaddexp.reduce(others, axis=-1)
    span = f"{scores.min():g} to {scores.max():g}"
    where = ["scores " + ", ".join(f"{v:.6g}" for v in row) for row in scores.reshape(-1, 4)]
    return [
        row(
            f"SharedSoftmaxHead: {name}",
            policy,
            span,
            -numpy(ops.softplus(sign * logits)).ravel(),
            -np.logaddexp(0, sign * exact).ravel(),
            where,
            "float32",
        )
        for name, sign in (("log p", -1), ("log(1 - p)", 1))
    ]


def row(what, dtype, span, found, exact, where, result_dtype):
    """One line of the table."""
    found = np.asarray(found).astype("float64").ravel()
    with np.errstate(invalid="ignore"):
        errors = np.abs(found - exact)
    counts = np.abs(exact) >= float(ml_dtypes.finfo(DTYPES[result_dtype]).tiny)
    relative = np.where(counts, errors / np.where(counts, np.abs(exact), 1), 0)
    # The first NaN is the largest for argmax, and infinity the next.
    worst = relative.argmax() if np.isfinite(errors).all() else errors.argmax()
    values = (what, dtype, span, f"{errors.max():.2g}", f"{relative.max():.2g}", where[worst])
    return dict(zip(COLUMNS, values))


def all_rows():
    rows = []
    for dtype in DTYPES:
        for policy in [dtype] if dtype == "float32" else [f"mixed_{dtype}", dtype]:
            rows += measure_head(policy)
    for name in {**OF_LOGITS, **OF_PROBABILITIES}:
        for dtype in DTYPES:
            rows += measure_loss(name, dtype)
            if dtype != "float32":
                rows += measure_loss(name, dtype, own_dtype=True)
        if name in OF_PROBABILITIES and name not in PAIRS:
            rows += measure_loss(name, "float32", of_sigmoid=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out")
    arguments = parser.parse_args()
    rows = all_rows()
    print(f"{keras.backend.backend()}, Keras {keras.__version__}\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for each in rows:
        print("| " + " | ".join(each.values()) + " |")
    if arguments.out:
        with open(arguments.out, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()

"""The generic checks over every class that is exported or registered with Keras."""

import importlib
import inspect

import generic_checks
import keras
import pytest
from generic_cases import CASES

# Exported classes that are no Keras objects with a config.
WITHOUT_CONFIG = {
    "AttentionHeat",
    "Evaluation",
    "ObservedEvaluation",
    "PatchGrid",
    "ScoreMapHeat",
    "WeakNegativeQuality",
}

# Made of tensors of a functional model: see models/test_multi_label_classifier.py.
OF_TENSORS = {"MultiLabelClassifier", "LabelClassifier"}  # the latter is its registered name
# A base class; see losses/test_multi_label_loss.py.
BASES = {"MultiLabelLoss"}

# Whose arguments are checked elsewhere, see their cases.
CHECKED_ELSEWHERE = {"BatchNorm", "Conv", "DepthwiseConv", "LabelEstimator", "CaffePixels"}


def cases(*kinds):
    """Parametrization over the cases of some kinds."""
    chosen = [case for case in CASES if case.kind in kinds]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: case.cls.__name__)


def exported_classes():
    found = {}
    for name in ("layers", "losses", "models", "optimizers", "metrics"):
        module = importlib.import_module(f"keras_patchpu.{name}")
        for public in getattr(module, "__all__", ()):
            if inspect.isclass(getattr(module, public)) and public not in OF_TENSORS | BASES:
                found[public] = getattr(module, public)
    return found


def registered_classes():
    registered = keras.saving.get_custom_objects()
    ours = [name for name in registered if name.startswith("keras_patchpu>")]
    return {registered[name] for name in ours if name.split(">")[1] not in OF_TENSORS}


def test_every_exported_or_registered_class_has_a_case():
    exported = set(exported_classes().values())
    without = {cls for cls in exported if cls.__name__ in WITHOUT_CONFIG}
    cases = {case.cls for case in CASES}
    assert exported - without <= cases
    assert registered_classes() == cases
    for cls in without:
        assert not hasattr(cls, "get_config")


def test_every_case_has_bad_arguments():
    for case in CASES:
        assert case.bad or case.cls.__name__ in CHECKED_ELSEWHERE, case.cls.__name__
        assert {argument for argument, _ in case.bad} <= {*case.arguments, "batch_norm", "weights"}


@cases("layer", "model", "loss", "optimizer")
def test_config(case):
    generic_checks.check_config(case)


@cases("layer", "model", "loss", "optimizer")
def test_round_trip(case):
    generic_checks.check_round_trip(case)


@cases("layer", "model")
def test_trainable(case):
    generic_checks.check_trainable(case)


@cases("layer", "model")
def test_weights(case):
    generic_checks.check_weights(case)


@cases("layer", "model")
def test_shapes(case):
    generic_checks.check_shapes(case)


@cases("layer", "model")
def test_saving(case, tmp_path):
    generic_checks.check_saving(case, tmp_path / "model.keras")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@cases("layer", "model")
def test_mixed_precision(case, policy):
    generic_checks.check_mixed_precision(case, policy)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="compiling takes minutes on this backend"
)
@cases("layer", "model")
def test_compiled(case):
    generic_checks.check_compiled(case)


@cases("loss")
def test_extreme_predictions(case):
    generic_checks.check_extreme_predictions(case)


def test_degenerate_embeddings():
    with_embeddings = [
        case for case in CASES if case.kind == "loss" and "image_embeddings" in case.cls.needs
    ]
    assert with_embeddings
    for case in with_embeddings:
        generic_checks.check_degenerate_embeddings(case)


@cases("loss")
def test_nothing_observed(case):
    generic_checks.check_nothing_observed(case)


@cases("loss")
def test_half_precision_predictions(case):
    generic_checks.check_half_precision(case)


@cases("loss")
def test_loss_saving(case, tmp_path):
    generic_checks.check_loss_saving(case, tmp_path / "model.keras")


@cases("optimizer")
def test_optimizer_resumes(case, tmp_path):
    generic_checks.check_optimizer_resumes(case, tmp_path / "model.keras")


@cases("optimizer")
def test_optimizer_lowers_a_loss(case):
    generic_checks.check_optimizer_lowers_a_loss(case)


@pytest.mark.parametrize(
    "case, argument, value",
    [(case, argument, value) for case in CASES for argument, value in case.bad],
    ids=[
        f"{case.cls.__name__}-{argument}-{value!r}"
        for case in CASES
        for argument, value in case.bad
    ],
)
def test_bad_argument(case, argument, value):
    generic_checks.check_bad_argument(case, argument, value)

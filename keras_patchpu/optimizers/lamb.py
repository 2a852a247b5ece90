"""LAMB as published, with weight decay inside the trust ratio."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_patchpu.utils.validation import check_number, check_patterns


@keras.saving.register_keras_serializable(package="keras_patchpu")
class Lamb(keras.optimizers.Optimizer):
    """LAMB of You et al., as tensorflow-addons had it.

    For each variable w with gradient g at step t:

    1. `m = beta_1 m + (1 - beta_1) g`, `v = beta_2 v + (1 - beta_2) g^2`
    2. `u = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay w`
    3. `w = w - learning_rate * |w| / |u| * u`, the ratio being 1 where a norm is 0.

    `keras.optimizers.Lamb` is another variant: it decays weights outside step 3 and
    cannot exempt variables. The two agree only for `weight_decay=0`.

    Args:
        learning_rate: Number, schedule or callable. Defaults to `0.001`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the denominator of step 2. Defaults to `1e-6`.
        weight_decay: Factor of w in step 2. Defaults to `0.0`.
        no_weight_decay: Regular expressions; a variable whose path matches one
            (`re.search`) is not decayed. Defaults to `None`.
        no_layer_adaptation: Regular expressions; for a variable whose path matches one
            the ratio of step 3 is 1. Defaults to `None`, which means the same variables
            as `no_weight_decay`, as in tensorflow-addons; `()` means none.
        learning_rate_multipliers: Dict from a regular expression to a number; the rate
            of a variable is multiplied by the number of the first expression that its
            path matches. (Scaling a gradient instead would change nothing: u does not
            depend on its scale.) Defaults to `None`.
        **kwargs: As of `keras.optimizers.Optimizer`: `clipnorm`, `use_ema`,
            `gradient_accumulation_steps`, ...

    Raises:
        ValueError: An argument is out of range.

    Reference:
        You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76
        minutes", arXiv 1904.00962, algorithm 2. The paper uses it in section 4.1.
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., float] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        no_weight_decay: Sequence[str] | None = None,
        no_layer_adaptation: Sequence[str] | None = None,
        learning_rate_multipliers: dict[str, float] | None = None,
        name: str = "lamb",
        **kwargs: Any,
    ) -> None:
        check_number("beta_1", beta_1, minimum=0, below=1)
        check_number("beta_2", beta_2, minimum=0, below=1)
        check_number("epsilon", epsilon, above=0)
        check_number("weight_decay", weight_decay, minimum=0)
        if isinstance(learning_rate, (int, float)):
            check_number("learning_rate", learning_rate, minimum=0)
        check_patterns("no_weight_decay", no_weight_decay or ())
        check_patterns("no_layer_adaptation", no_layer_adaptation or ())
        if not isinstance(learning_rate_multipliers or {}, dict):
            raise ValueError(
                "Expected `learning_rate_multipliers` to be a dict from regular expressions to "
                f"numbers. Received: learning_rate_multipliers={learning_rate_multipliers!r}"
            )
        check_patterns("learning_rate_multipliers", list(learning_rate_multipliers or {}))
        for factor in (learning_rate_multipliers or {}).values():
            check_number("learning_rate_multipliers", factor, minimum=0)
        # The base class must not decay: it would do so outside the trust ratio.
        super().__init__(learning_rate=learning_rate, weight_decay=None, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.no_weight_decay = no_weight_decay
        self.no_layer_adaptation = no_layer_adaptation
        self.learning_rate_multipliers = learning_rate_multipliers

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        # By index, because an update step on TensorFlow does not know a variable's path.
        decay_exempt = self.no_weight_decay or ()
        adaptation_exempt = self.no_layer_adaptation
        if adaptation_exempt is None:
            adaptation_exempt = decay_exempt
        self._decays = [
            self._use_weight_decay(variable) and not _matches(variable, decay_exempt)
            for variable in variables
        ]
        self._factors = [
            next(
                (
                    factor
                    for pattern, factor in (self.learning_rate_multipliers or {}).items()
                    if _matches(variable, [pattern])
                ),
                1.0,
            )
            for variable in variables
        ]
        self._adapts = [not _matches(variable, adaptation_exempt) for variable in variables]

    def _apply_weight_decay(self, variables):
        """Nothing: decay is part of `update_step`."""

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        learning_rate = ops.cast(learning_rate, dtype) * self._factors[index]
        gradient = ops.cast(gradient, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]

        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1 - self.beta_2))
        first = momentum / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        second = velocity / (1 - ops.power(ops.cast(self.beta_2, dtype), step))
        update = first / (ops.sqrt(second) + self.epsilon)
        if self.weight_decay and self._decays[index]:
            update = update + self.weight_decay * variable
        if self._adapts[index]:
            weight_norm = ops.sqrt(ops.sum(ops.square(variable)))
            update_norm = ops.sqrt(ops.sum(ops.square(update)))
            known = ops.logical_and(weight_norm > 0, update_norm > 0)
            safe_norm = ops.where(known, update_norm, ops.ones_like(update_norm))
            ratio = ops.where(known, weight_norm / safe_norm, ops.ones_like(update_norm))
            learning_rate = learning_rate * ratio
        self.assign_sub(variable, learning_rate * update)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "beta_1": self.beta_1,
                "beta_2": self.beta_2,
                "epsilon": self.epsilon,
                "weight_decay": self.weight_decay,
                "no_weight_decay": self.no_weight_decay,
                "no_layer_adaptation": self.no_layer_adaptation,
                "learning_rate_multipliers": self.learning_rate_multipliers,
            }
        )
        return config


def _matches(variable, patterns):
    return any(re.search(pattern, variable.path) for pattern in patterns)

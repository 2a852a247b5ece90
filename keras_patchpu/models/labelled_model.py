"""A model that keeps what its labels are called, and from where they are predicted."""

from collections.abc import Iterable, Sequence

import numpy as np

from keras_patchpu.models.distributed_model import DistributedModel
from keras_patchpu.utils.validation import check_numbers


class LabelledModel(DistributedModel):
    """A model of `num_labels` labels, with their names and thresholds where these are known."""

    num_labels: int
    _label_names = None
    _thresholds = None

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """L strings, or `None`. Set it to name the labels of the model."""
        return self._label_names

    @label_names.setter
    def label_names(self, names: Iterable[str] | None) -> None:
        if names is not None:
            names = tuple(names)
            wrong = [name for name in names if not isinstance(name, str)]
            if len(names) != self.num_labels or wrong or len(set(names)) < len(names):
                raise ValueError(
                    f"Expected `label_names` to be {self.num_labels} different strings. Received: "
                    f"label_names={names}"
                )
        self._label_names = names

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """L numbers from 0 to 1, or `None`. Set it to change from where labels are predicted."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Sequence[float] | np.ndarray | None) -> None:
        if thresholds is not None:
            # As `choose_thresholds` gives them, too.
            thresholds = thresholds.tolist() if isinstance(thresholds, np.ndarray) else thresholds
            check_numbers("thresholds", thresholds, self.num_labels, minimum=0, maximum=1)
            thresholds = tuple(float(threshold) for threshold in thresholds)
        self._thresholds = thresholds

    @property
    def num_parameters(self) -> int:
        """Numbers in the network's weights, without what a loss trains beside it."""
        return sum(layer.count_params() for layer in self.layers)

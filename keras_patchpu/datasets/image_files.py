"""Images on disk and what is known about their labels."""

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Images that are read when they are needed, and what is known about their labels.

    Attributes:
        names: N different strings that name the images in messages and results.
        sources: N items for `read_image`: paths, or bytes. May be any sequence that fetches
            an item when it is asked for it.
        labels: int8 `(N, L)` in {+1 known present, 0 unknown, -1 known absent}.
        label_names: L strings.
        box_labels: N integer arrays `(K,)`, the labels of the objects of each image. Defaults
            to `None`: objects are not known.
        boxes: N float32 arrays `(K, 4)` of `(y_min, x_min, y_max, x_max)` from 0 to 1, the
            boxes of these objects.
    """

    names: Sequence[str]
    sources: Sequence[str | os.PathLike | bytes]
    labels: np.ndarray
    label_names: tuple[str, ...]
    box_labels: Sequence[np.ndarray] | None = None
    boxes: Sequence[np.ndarray] | None = None

    def __post_init__(self):
        count, num_labels = np.shape(self.labels)
        if not (len(self.names) == len(self.sources) == count):
            raise ValueError(
                "Expected one name, one source and one row of labels an image. Received: "
                f"{len(self.names)} names, {len(self.sources)} sources, {count} rows"
            )
        if len(self.label_names) != num_labels:
            raise ValueError(
                f"Expected {num_labels} `label_names`, one a column of `labels`. Received: "
                f"{len(self.label_names)}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fully_annotated(self) -> bool:
        """Whether of every image every label is known."""
        return bool((self.labels != 0).all())

    def take(self, indices: Iterable[int]) -> "ImageFiles":
        """The images of these indices, in this order."""
        indices = [int(index) for index in indices]

        def chosen(items):
            return None if items is None else [items[index] for index in indices]

        return dataclasses.replace(
            self,
            names=chosen(self.names),
            sources=_Chosen(self.sources, indices),
            labels=self.labels[indices],
            box_labels=chosen(self.box_labels),
            boxes=chosen(self.boxes),
        )


class _Chosen(Sequence):
    """Some items of a sequence, fetched one by one."""

    def __init__(self, items, indices):
        self.items, self.indices = items, indices

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        return self.items[self.indices[index]]

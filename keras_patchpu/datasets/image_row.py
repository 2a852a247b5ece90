"""One image of a table or of a folder, as it is before labels become an array."""

import dataclasses
import os

LISTED = 10  # names that a message lists before "and N more"


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One image and what is known about its labels.

    Attributes:
        place: What messages call it.
        name: Its path relative to the folder, with `/`.
        source: Its path.
        present, absent: Sets of names of labels.
        split: `"train"`, `"validation"`, or `None` where nothing says it.
    """

    place: str
    name: str
    source: str
    present: set
    absent: set
    split: str | None


def check_no_link_outside(place, image, source, root):
    """Raises a ValueError if links lead out of `root`."""
    real = os.path.realpath(source)
    if not real.startswith(os.path.join(root, "")):
        raise ValueError(
            f"{place}: expected a path inside the folder of the images. Received: {image}, a link "
            f"to {real} (allow_outside=True allows it)"
        )

"""What a picture is and what is on it."""

import io

from matplotlib.figure import Figure


def is_drawable(figure):
    """Whether matplotlib can lay the figure out and write it as a PNG."""
    assert isinstance(figure, Figure)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue().startswith(b"\x89PNG")


def rectangles(axes):
    """Edges `(left, bottom, right, top)` of the unfilled rectangles, in data units."""
    return [patch.get_bbox().extents for patch in axes.patches if not patch.get_fill()]

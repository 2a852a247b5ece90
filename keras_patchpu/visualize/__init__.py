"""Pictures of what the model sees, pools and learns, as matplotlib figures.

Every `draw_*` function returns a `matplotlib.figure.Figure`: show it in a notebook, or
write it with `figure.savefig(path)`. No window is opened and `pyplot` is not used, so
nothing has to be closed. Every function imports what it needs of matplotlib itself, so that
importing the package does not wait for it.
"""

from keras_patchpu.visualize.attention import attention_overlay, draw_attention, draw_tags
from keras_patchpu.visualize.curves import draw_curves
from keras_patchpu.visualize.patches import draw_patches
from keras_patchpu.visualize.results import draw_localization_extremes, draw_negatives_quality
from keras_patchpu.visualize.weak_negatives import draw_weak_negatives

__all__ = [
    "attention_overlay",
    "draw_attention",
    "draw_curves",
    "draw_localization_extremes",
    "draw_negatives_quality",
    "draw_patches",
    "draw_tags",
    "draw_weak_negatives",
]

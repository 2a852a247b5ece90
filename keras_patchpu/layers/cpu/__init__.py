"""The embedder's arithmetic, arranged for speed on a CPU, behind one door.

`PatchEmbedder` asks `applies` and then calls `embed`; with an `applies` that always says no,
every number stays the same up to rounding.
"""

from keras_patchpu.layers.cpu.embedding import applies, embed

__all__ = ["applies", "embed"]

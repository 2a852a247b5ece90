"""What the property tests draw: few shapes, so that little is compiled anew, and any values."""

import hypothesis
import keras
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

# JAX compiles every operation anew for every shape.
_SHARE = 0.25 if keras.backend.backend() == "jax" else 1.0


def _examples(count):
    """Settings: the same examples in every run, and nothing is written."""
    return hypothesis.settings(
        derandomize=True, deadline=None, database=None, max_examples=max(2, int(_SHARE * count))
    )


FEW, QUICK, MANY = _examples(4), _examples(10), _examples(60)

# Ends of ranges: where float32's exp and sigmoid leave it, and its smallest numbers.
EDGES = [0.0, 17.0, 88.0, 89.0, 104.0, 1e4, 1e-38, float(np.float32(1.2e-38)), 1e-45]


def floats(limit, edges=()):
    """float32 numbers up to a limit, zeros and ends of ranges often among them."""
    edges = [edge for edge in (*EDGES, *edges) if edge <= limit]
    signed = [sign * float(np.float32(edge)) for edge in edges for sign in (1, -1)]
    ordinary = st.floats(-30, 30, width=32)
    return st.sampled_from(signed) | ordinary.map(lambda x: max(-limit, min(limit, x)))


def array(shape, elements):
    # (Ties and constant rows are drawn by the fill.)
    return arrays.arrays("float32", shape, elements=elements)


def labels(shape):
    """int8 in {+1, 0, -1}; often all unknown, for that is what examples shrink to."""
    return arrays.arrays("int8", shape, elements=st.sampled_from([0, 1, -1]))


@st.composite
def shapes(draw, images=(1, 2, 4), labels=(1, 2, 5)):
    return draw(st.sampled_from(images)), draw(st.sampled_from(labels))


@st.composite
def permutation(draw, count):
    return np.array(draw(st.permutations(range(count))))


def not_contiguous(values):
    """An array of the same values that lies in memory the other way round."""
    return np.asfortranarray(values[::-1])[::-1]

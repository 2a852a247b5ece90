"""Blocks 3 and 4: one learned codebook per label pools the patch embeddings."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.layers.inner_state import LayerOfLayers
from keras_patchpu.utils.validation import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_patchpu")
class CodebookAttentionPool(LayerOfLayers):
    """One image embedding per label, by attention of a codebook over patches (blocks 3, 4).

    1. Attention, eq. (1): `attention[b, l, i] = softmax_i(codebook[l] . patch[b, i])`,
       shape `(B, L, P)`. No projection matrices and no scaling of the scores.
    2. Pooling: `pooled = attention @ patches`, shape `(B, L, F)`.
    3. Image embedding, eq. (2): `mlp(pooled) + pooled`, with an MLP of two layers,
       GELU after the first, shape `(B, L, F)`.

    Scores and softmax are computed in float32 under any dtype policy.

    Args:
        num_labels: Number of labels, L.
        hidden_units: Neurons of the MLP's first layer; `None` for no MLP, then step 3 is left
            out. Defaults to `256`.
        codebook_initializer: Initialiser of the `(L, F)` codebook. Its scale decides
            whether training starts from uniform attention. Defaults to `None`:
            `VarianceScaling(1.0)` over the F features that a score sums over, a
            standard deviation of `F ** -0.5`.
        kernel_initializer: Initialiser of the MLP's kernels. Defaults to `None`:
            `VarianceScaling(1.0)`.

    Call arguments:
        patch_embeddings: `(B, P, F)`; B and P may be unknown.
        mask: Boolean `(B, P)`, false where there is no patch, for sets of unequal size.
            What stands there does not count: its attention is 0. A row without any patch
            has no attention at all, so that its image embeddings are the MLP's of zeros.
            Defaults to `None`: all are patches.
        return_attention_scores: Whether to return the attention too. Defaults to `False`.

    Returns:
        Image embeddings `(B, L, F)`, in the compute dtype; with
        `return_attention_scores=True` a pair of them and the float32 attention `(B, L, P)`,
        which sums to 1 over P.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Jouanneau et al., section 3.1, "Codebook embedding" and "Image representations
        with patch pooling", eq. (1)-(2).
    """

    def __init__(
        self,
        num_labels: int,
        hidden_units: int | None = 256,
        codebook_initializer: keras.Initializer | str | None = None,
        kernel_initializer: keras.Initializer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integer("num_labels", num_labels)
        if hidden_units is not None:
            check_positive_integer("hidden_units", hidden_units)
        self.num_labels = num_labels
        self.hidden_units = hidden_units
        if codebook_initializer is None:
            # Keras takes the last axis of a matrix as its fan-out: here the features.
            codebook_initializer = keras.initializers.VarianceScaling(1.0, mode="fan_out")
        self.codebook_initializer = keras.initializers.get(codebook_initializer)
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(1.0)
        )

    def build(self, input_shape):
        features = input_shape[-1]
        self.codebook = self.add_weight(
            name="codebook",
            shape=(self.num_labels, features),
            initializer=self.codebook_initializer,
            autocast=False,  # not rounded to half precision on its way to the scores
        )
        if self.hidden_units is None:
            return
        pooled_shape = (input_shape[0], self.num_labels, features)
        hidden_shape = (input_shape[0], self.num_labels, self.hidden_units)
        self.mlp_hidden = self._dense(self.hidden_units, "mlp_hidden", "gelu", pooled_shape)
        self.mlp_output = self._dense(features, "mlp_output", None, hidden_shape)

    def _dense(self, units, name, activation, input_shape):
        layer = keras.layers.Dense(
            units,
            activation=activation,
            # A copy, so that two layers do not draw the same numbers from one seed.
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(input_shape)
        return layer

    def call(self, patch_embeddings, mask=None, return_attention_scores=False):
        patch_embeddings = ops.cast(patch_embeddings, self.compute_dtype)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            patch_embeddings = ops.where(mask[:, :, None], patch_embeddings, 0)
        # In float32: exp() of a half-precision score is coarse. (Of an einsum the converter to
        # LiteRT makes a file that cannot be loaded.)
        codebook = ops.transpose(ops.cast(self.codebook, "float32"))
        scores = ops.matmul(ops.cast(patch_embeddings, "float32"), codebook)  # (B, P, L)
        scores = ops.transpose(scores, (0, 2, 1))
        if mask is None:
            attention = ops.softmax(scores, axis=-1)
        else:
            # Finite, because the softmax of a row of minus infinities is NaN.
            scores = ops.where(mask[:, None], scores, -1e30)
            attention = ops.where(mask[:, None], ops.softmax(scores, axis=-1), 0.0)
        pooled = ops.matmul(ops.cast(attention, self.compute_dtype), patch_embeddings)
        image_embeddings = self.embed(pooled)
        if return_attention_scores:
            return image_embeddings, attention
        return image_embeddings

    def embed(self, pooled: Any) -> Any:
        """Step 3: image embeddings `(..., F)` of pooled patch embeddings `(..., F)`."""
        if self.hidden_units is None:
            return pooled
        return ops.add(self.mlp_output(self.mlp_hidden(pooled)), pooled)

    def compute_mask(self, patch_embeddings, mask=None):
        # Every label has an image embedding. (That there is this method lets masks come in.)
        return None

    def compute_output_spec(self, patch_embeddings, mask=None, return_attention_scores=False):
        batch, num_patches, features = patch_embeddings.shape
        embeddings = keras.KerasTensor((batch, self.num_labels, features), dtype=self.compute_dtype)
        if not return_attention_scores:
            return embeddings
        return embeddings, keras.KerasTensor((batch, self.num_labels, num_patches), dtype="float32")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_labels, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "hidden_units": self.hidden_units,
            "codebook_initializer": keras.initializers.serialize(self.codebook_initializer),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

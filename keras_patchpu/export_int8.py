"""ONNX files that compute with 8-bit integers."""

import logging
import pathlib
import tempfile

_BATCH = 16
_PRODUCTS = ("MatMul", "Gemm")


def quantize(source, target, images):
    """Quantises an ONNX file after training, by the ranges that images give (QDQ).

    Weights get int8 with a scale for each channel, activations uint8 with one scale for each
    tensor, from the smallest to the largest value seen. Up to the last convolution every
    operation is quantised; after it only matrix products, as the softmax of attention and the
    exponentials of the head lose much by it (benchmarks/README.md).

    Args:
        source: Path of the file, whose input is `images`.
        target: Path of the file to write.
        images: uint8 `(N, H, W, 3)`; a hundred will do.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = (images[i : i + _BATCH] for i in range(0, len(images), _BATCH))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        # Symbolic shapes would need one more package, and there are none but the batch.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it warns of what was just done
        try:
            quantization.quantize_static(
                str(prepared),
                str(target),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=_kept_in_float(prepared),
            )
        finally:
            logging.getLogger().setLevel(level)


def _kept_in_float(path):
    """Names of what comes after the last convolution, but matrix products."""
    import onnx

    nodes = list(onnx.load(path).graph.node)
    last = max(index for index, node in enumerate(nodes) if node.op_type == "Conv")
    return [node.name for node in nodes[last + 1 :] if node.op_type not in _PRODUCTS]

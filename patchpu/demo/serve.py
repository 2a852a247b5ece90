"""Serves the page of `patchpu demo`."""

import contextlib
import os
import signal
import sys
import tempfile

from keras_patchpu.utils.validation import FileError

_EXAMPLES = 24
_EXAMPLE_SIDE = 128
_LARGEST_PORT = 65535


def serve(model, examples, host, port, max_pixels):
    """Shows the page until Ctrl-C or SIGTERM.

    Args:
        model: Path of a .keras file or of a run folder.
        examples: As of `list_images`, or `None`: scenes, for a model of the built-in digits.
        host, port: Where to listen.
        max_pixels: As of `Explainer`.

    Raises:
        ValueError: An argument is wrong.
        ImportError: Gradio is not installed.
        SystemExit: 128 + the number of the signal that ended it.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise ValueError(f"Expected --port from 0 to {_LARGEST_PORT}. Received: {port}")
    with contextlib.ExitStack() as stack:
        for name in ("SIGTERM", "SIGHUP"):  # by themselves they would leave the folder behind
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                stack.callback(signal.signal, number, signal.signal(number, _end))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="patchpu-demo-"))
        # Read when Gradio is imported, or later: no telemetry, and uploads end with the process.
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GRADIO_TEMP_DIR": folder,
        }
        _check_gradio()
        from keras_patchpu.models.load_classifier import load_classifier, model_file
        from keras_patchpu.tagging import Explainer
        from patchpu.demo.examples import digit_scenes
        from patchpu.demo.page import listen, make_page, make_server
        from patchpu.training.run_files import run_of_model

        listening = stack.enter_context(listen(host, port))
        path = model_file(model)
        run = run_of_model(path)
        model = load_classifier(path, compile=False)
        explainer = Explainer(model, max_pixels)
        if examples is None:
            examples = digit_scenes(model, run or path.parent)
        else:
            from keras_patchpu.datasets import list_images

            images = list_images(examples)[:_EXAMPLES]
            examples = [(image, image) for image in images]
        name = run.resolve().name if run else path.stem
        page = make_page(explainer, _with_pictures(examples, explainer.max_pixels), name)
        server = make_server(page, listening)
        host = f"[{host}]" if ":" in host else host
        port = listening.getsockname()[1]
        print(f"The page is at http://{host}:{port} until Ctrl-C", flush=True)
        server.run(sockets=[listening])


def _end(number, _):
    raise SystemExit(128 + number)


def _check_gradio():
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "`patchpu demo` needs Gradio: pip install 'keras_patchpu[demo]'"
        ) from error


def _with_pictures(examples, max_pixels):
    """Triples of a name, an image and a small picture of it; without those that cannot be read."""
    import numpy as np
    from PIL import Image

    from keras_patchpu.datasets.read_image import read_image

    readable = []
    for name, source in examples:
        pixels = source
        if not isinstance(source, np.ndarray):
            try:
                pixels = read_image(source, max_pixels=max_pixels)
            except FileError as error:
                print(f"left out of the examples: {error}", file=sys.stderr)
                continue
        small = Image.fromarray(pixels)
        small.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
        readable.append((name, source, np.asarray(small)))
    if examples and not readable:
        raise ValueError("None of the --examples can be read")
    return readable

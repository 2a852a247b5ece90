"""The command `patchpu demo`: a page on which a model is tried out."""

import contextlib
import os
import signal
import sys
import tempfile

from keras_patchpu.command import add_max_pixels, user_errors
from keras_patchpu.validation import FileError

# Keras and what imports it stand inside the functions, so that `--help` is quick.

_EXAMPLES = 24
_EXAMPLE_SIDE = 128
_LARGEST_PORT = 65535


def demo(arguments):
    """The command `patchpu demo`.

    Args:
        arguments: List of strings, without the command's name.

    Raises:
        SystemExit: Code 2 and a message on stderr for what a user can mend; 128 + the
            number of the signal that ended it, such as Ctrl-C; code 0 after `--help`.
    """
    options = _parser().parse_args(arguments)
    try:
        with user_errors("patchpu demo", ImportError):
            _demo(options)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def _parser():
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    parser = ArgumentParser(
        prog="patchpu demo",
        description="A page in the browser to try a model: tags of an image, and where they are. "
        "Ends with Ctrl-C. Needs the extra `demo`.",
        formatter_class=DefaultHelpFormatter,
    )
    parser.add_argument("model", type=str, help="A .keras file, or a run folder (last.keras).")
    parser.add_argument(
        "--examples",
        type=str,
        nargs="+",
        default=None,
        help="Image files, folders, patterns in quotes or tables, as of `patchpu predict`; the "
        f"first {_EXAMPLES} images are shown. Default: validation scenes, if the model was trained "
        "on the built-in digits, else none.",
    )
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="Address to listen on. The default is seen by this machine only; 0.0.0.0 by everybody "
        "who can reach it, without a password.",
    )
    parser.add_argument("--port", type=int, default=7860, help="0: any that is free.")
    add_max_pixels(parser)
    return parser


def _demo(options):
    if not 0 <= options.port <= _LARGEST_PORT:
        raise ValueError(f"Expected --port from 0 to {_LARGEST_PORT}. Received: {options.port}")
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
        from keras_patchpu.demo import Explainer, digit_scenes
        from keras_patchpu.demo_page import listen, make_page, make_server
        from keras_patchpu.models.load_classifier import load_classifier, model_file

        listening = stack.enter_context(listen(options.host, options.port))
        path = model_file(options.model)
        model = load_classifier(path, compile=False)
        explainer = Explainer(model, options.max_pixels)
        if options.examples is None:
            examples = digit_scenes(model, path.parent)
        else:
            from keras_patchpu.predict_command import list_images

            images = list_images(options.examples)[:_EXAMPLES]
            examples = [(image, image) for image in images]
        path = path.resolve()
        name = path.parent.name if path.name == "last.keras" else path.stem
        page = make_page(explainer, _with_pictures(examples, explainer.max_pixels), name)
        server = make_server(page, listening)
        host = f"[{options.host}]" if ":" in options.host else options.host
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

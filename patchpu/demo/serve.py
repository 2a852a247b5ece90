"""Serves the page of `patchpu demo`."""

import contextlib
import os
import signal
import socket
import tempfile

from keras_patchpu.models.load_classifier import load_classifier, model_file
from keras_patchpu.tagging import Explainer
from patchpu.demo.examples import digit_examples, image_examples
from patchpu.training.run_files import run_of_model

_LARGEST_PORT = 65535


def serve(model, examples, host, port, max_pixels):
    """Shows the page until a signal.

    Args:
        model: Path of a .keras file or of a run folder.
        examples: As of `list_images`, or `None`: scenes, for a model of the built-in digits.
        host, port: Where to listen.
        max_pixels: As of `Explainer`.

    Raises:
        ValueError: An argument is wrong.
        OSError: Host or port cannot be had.
        ImportError: Gradio is not installed.
        SystemExit: 128 + the number of the signal that ended it.
    """
    port = free_port(host, port)
    with contextlib.ExitStack() as stack:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # some would leave the folder behind
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                stack.callback(signal.signal, number, signal.signal(number, _end))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="patchpu-demo-"))
        os.environ |= {  # no telemetry, and uploads end with the process
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GRADIO_TEMP_DIR": folder,
            # Gradio visits its own page once, which a proxy could not.
            "no_proxy": ",".join([os.environ.get("no_proxy", ""), "localhost,127.0.0.1", host]),
        }
        try:  # an optional package, that reads the environment when it is imported
            from patchpu.demo.page import LOOK, make_page
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise ImportError(
                "`patchpu demo` needs Gradio: pip install 'keras_patchpu[demo]'"
            ) from error
        file = model_file(model)
        classifier = load_classifier(file, compile=False)
        explainer = Explainer(classifier, max_pixels)
        run = run_of_model(file)
        if examples is None:
            examples = digit_examples(classifier, run or file.parent)
        else:
            examples = image_examples(examples, explainer.max_pixels)
        page = make_page(explainer, examples, run.resolve().name if run else file.stem)
        host = f"[{host}]" if ":" in host else host
        stack.callback(page.close, verbose=False)
        launch(page, host, port, LOOK)
        page.server.config.timeout_graceful_shutdown = 1  # pages that are open keep a connection
        print(f"The page is at http://{host}:{port} until Ctrl-C", flush=True)
        page.server.thread.join()


def launch(page, host, port, look):
    """Starts the server of a page in a thread, with all switched off that reaches out.

    Args:
        page: `gradio.Blocks`.
        host, port: Where to listen.
        look: Options of `gradio.Blocks.launch` for how it looks.
    """
    page.launch(
        server_name=host,
        server_port=port,
        max_file_size="100mb",
        state_session_capacity=200,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        **look,
    )


def _end(number, _):
    raise SystemExit(128 + number)


def free_port(host, port):
    """The port, or for 0 one that is free, if it can be listened on: Gradio says no reason."""
    if not 0 <= port <= _LARGEST_PORT:
        raise ValueError(f"Expected --port from 0 to {_LARGEST_PORT}. Received: {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(address[:2], family=family) as listening:
            return listening.getsockname()[1]
    except OSError as error:
        raise OSError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Give another --host or --port"
        ) from error

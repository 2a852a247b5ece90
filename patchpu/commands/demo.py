"""The command `patchpu demo`: a page on which a model is tried out."""

import signal

from patchpu.commands.options import run_command


def main(arguments):
    try:
        run_command(demo, arguments, [ImportError])
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def demo(
    model: str,
    examples: list[str] | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_pixels: int | None = None,
):
    """A page in the browser to try a model: tags of an image, and where they are.

    Ends with Ctrl-C. Needs the extra `demo`.

    Args:
        model: A .keras file, or a run folder.
        examples: Image files, folders, patterns in quotes or tables, as of `patchpu predict`; the
            first 24 images are shown. Default: validation scenes, if the model was trained on
            the built-in digits, else none.
        host: Address to listen on. The default is seen by this machine only; 0.0.0.0 by
            everybody who can reach it, without a password.
        port: 0: any that is free.
        max_pixels: Larger images are refused. null: 100 million pixels.
    """
    from patchpu.demo.serve import serve

    serve(model, examples, host, port, max_pixels)

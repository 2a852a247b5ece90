"""Signals that ask a process to end."""

import contextlib
import os
import signal

_NUMBERS = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]


@contextlib.contextmanager
def collected_signals(first_only=False):
    """While it lasts, signals to end are collected in the list that it gives.

    Args:
        first_only: Whether only the first is collected and tells on stderr that it is; a second
            one then does what it did before. Defaults to `False`.
    """
    received = []
    previous = {}

    def restore():
        for number, handler in previous.items():
            signal.signal(number, handler)

    def collect(number, _):
        received.append(number)
        if first_only:
            restore()
            # Not by print: the signal may come in the middle of one.
            os.write(2, b"\nstopping after this step; once more stops at once\n")

    for number in filter(None, _NUMBERS):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            previous[number] = signal.signal(number, collect)
    try:
        yield received
    finally:
        restore()

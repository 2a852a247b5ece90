import os
import signal

import pytest

from patchpu.training.signals import collected_signals

pytestmark = pytest.mark.no_backend


def test_signals_are_collected_and_then_do_what_they_did():
    before = signal.getsignal(signal.SIGTERM)
    with collected_signals() as received:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert received == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_second_signal_stops_at_once(capfd):
    with pytest.raises(KeyboardInterrupt):
        with collected_signals(first_only=True) as received:
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
            os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGTERM]
    assert "stopping after this step; once more stops at once" in capfd.readouterr().err


def test_a_signal_that_was_ignored_is_ignored():  # as under nohup
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with collected_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)

"""Threads that MAX starts beside the kernels' team."""

from __future__ import annotations

import ctypes
import sys
import threading

import pytest

from max_whisper.graph import team

GET_SLACK = 30  # Linux: PR_GET_TIMERSLACK


@pytest.mark.skipif(sys.platform != "linux", reason="timer slack is Linux's")
def test_what_starts_meanwhile_may_sleep_longer():
    """Threads inherit it; the one that starts them has its own back, whatever happens."""

    def slack():
        return ctypes.CDLL(None).prctl(GET_SLACK)

    found = []
    before = slack()
    with pytest.raises(ZeroDivisionError), team._drowsy():
        thread = threading.Thread(target=lambda: found.append(slack()))
        thread.start()
        thread.join()
        raise ZeroDivisionError
    assert slack() == before < found[0] == 1_000_000_000

"""The kernels' threads: a team for the process, started once (``kernels/team.mojo``)."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from max.driver import Buffer
from max.dtype import DType
from max.engine import Model
from max.graph import TensorType, ops

from max_whisper.graph.module import GraphModule

_teams: dict[int, tuple[Model, Buffer]] = {}
_lock = threading.Lock()


def add_team(graphs: GraphModule) -> None:
    """Input: how many threads (1,). Output: the address of a team of them, the caller included."""
    one = TensorType(DType.int64, (1,), graphs.device)
    with graphs.graph("team", [one]) as graph:
        graph.output(*ops.custom("whisper_team", graphs.device, [graph.inputs[0]], [one]))


def team_of(threads: int, model: Model) -> Buffer:
    """What graphs take as their team, (2,) int64: its address, and its threads.

    Args:
        threads: How many work, the one that calls included.
        model: The graph of :func:`add_team`, run if there is no such team yet.
    """
    with _lock:
        if threads not in _teams:
            with _drowsy():
                (address,) = model.execute(Buffer.from_numpy(np.array([threads], np.int64)))
            # Its threads run the graph's code for as long as the process lives, and the interpreter
            # drops what modules hold before that: the graph must stay loaded.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))
            reached = np.array([int(address.to_numpy()[0]), threads], np.int64)
            _teams[threads] = model, Buffer.from_numpy(reached)
        return _teams[threads][1]


@contextmanager
def _drowsy() -> Iterator[None]:
    """Lets threads that this one starts meanwhile sleep past their time, until it suits the system.

    With a process's first execution MAX starts a thread that looks for events to log every 100
    microseconds, whether anybody asked for them or not, and each time takes a core from the team.
    Linux lets a thread inherit how late its timers may be.
    """
    set_slack, get_slack, second = 29, 30, 1_000_000_000  # PR_SET_TIMERSLACK, PR_GET_TIMERSLACK
    system = ctypes.CDLL(None)
    before = system.prctl(get_slack) if sys.platform == "linux" else -1
    if before < 0:
        yield
        return
    system.prctl(set_slack, ctypes.c_ulong(second))
    try:
        yield
    finally:
        system.prctl(set_slack, ctypes.c_ulong(before))

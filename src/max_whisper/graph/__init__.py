"""Whisper as MAX graphs: the only package that imports ``max``."""

import gc
import importlib
import os
import sys

# MAX's own threads would look for work in a loop while the kernels' team (team.py) needs the cores.
# The setting has two names that must agree, and holds from the first device on: whoever has MAX
# running already, or chose a value, keeps it.
_BUSY_WAIT = ("MODULAR_RUNTIME_THREAD_BUSY_WAIT_TIME_US", "MODULAR_THREAD_BUSY_WAIT_US")
if "max.driver" not in sys.modules and not any(name in os.environ for name in _BUSY_WAIT):
    os.environ.update(dict.fromkeys(_BUSY_WAIT, "0"))


def _import_max() -> None:
    """MAX's modules leave 80,000 objects that stay: looking for garbage among them takes 30 ms."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("max.engine")
    finally:
        if not gc.get_freeze_count():
            # To the oldest generation, as if they had been looked through.
            gc.freeze()
            gc.unfreeze()
        if collecting:
            gc.enable()


_import_max()

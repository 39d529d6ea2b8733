"""MAX's library, opened while Python is busy with something else."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from threading import Thread


def preload_max() -> None:
    """Begins to open MAX's library: 25 ms of linking, for which Python need not wait.

    A thread does it, and the import that comes later finds the library open. Where anything is
    missing nothing happens, and that import says so.
    """
    spec = None if "max._core" in sys.modules else importlib.util.find_spec("max")
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in Path(folder).glob("_core.*.so"):
            # As a foreign function, dlopen leaves the interpreter to others; ctypes.CDLL does not.
            arguments = os.fsencode(library), sys.getdlopenflags()
            Thread(target=ctypes.CDLL(None).dlopen, args=arguments, daemon=True).start()

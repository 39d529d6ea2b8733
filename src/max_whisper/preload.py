"""MAX's library, opened while Python is busy with something else."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread


@contextlib.contextmanager
def preloaded_max() -> Iterator[None]:
    """Opens MAX's library beside what is done within: 25 ms of linking, for which Python need not wait.

    Where anything is missing nothing happens, and the import that comes later says so.
    """
    threads: list[Thread] = []
    with contextlib.suppress(OSError, AttributeError, ValueError):
        spec = None if "max._core" in sys.modules else importlib.util.find_spec("max")
        for folder in (spec and spec.submodule_search_locations) or ():
            for library in Path(folder).glob("_core.*.so"):
                # As a foreign function, dlopen leaves the interpreter to others; ctypes.CDLL does not.
                arguments = os.fsencode(library), sys.getdlopenflags()
                threads.append(Thread(target=ctypes.CDLL(None).dlopen, args=arguments))
                threads[-1].start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()

"""How MAX is brought in: its library ahead of its modules, and without a search for garbage."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from max_whisper.preload import preloaded_max

SOURCE = str(Path(__file__).parents[2] / "src")


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": SOURCE})


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not say what is open")
def test_the_library_is_opened_in_a_thread_of_its_own() -> None:
    run(
        "import sys, threading, pathlib\n"
        "from max_whisper.preload import preloaded_max\n"
        "library = lambda: '/_core.' in pathlib.Path('/proc/self/maps').read_text()\n"
        "assert not library()\n"
        "with preloaded_max(): pass\n"
        "assert threading.active_count() == 1\n"
        "assert library() and 'max' not in sys.modules\n"
        "import max.engine\n"
        "with preloaded_max(): assert threading.active_count() == 1\n"
    )


@pytest.mark.parametrize("error", [None, ValueError("max.__spec__ is None")])
def test_without_max_nothing_happens(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def find_spec(_: str) -> None:
        if error:
            raise error

    monkeypatch.delitem(sys.modules, "max._core", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    before = threading.active_count()
    with preloaded_max():
        assert threading.active_count() == before


def test_objects_of_max_count_as_looked_through() -> None:
    run(
        "import gc, max_whisper.graph\n"
        "assert gc.isenabled() and not gc.get_freeze_count()\n"
        "assert len(gc.get_objects(generation=2)) > 10 * len(gc.get_objects(generation=0))\n"
    )


def test_who_does_not_collect_garbage_goes_on_so() -> None:
    run(
        "import gc; gc.disable(); gc.freeze()\n"
        "import max_whisper.graph\n"
        "assert not gc.isenabled() and gc.get_freeze_count()\n"
    )

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks import first_start
from benchmarks.environments import BenchmarkError


def test_all_caches_are_empty_at_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HOME", "MODULAR_HOME", "XDG_CACHE_HOME", "MAX_WHISPER_CACHE")
    program = (
        "import os, pathlib, sys\n"
        f"places = {{os.environ[name] for name in {names!r}}}\n"
        f"assert len(places) == {len(names)} and sys.argv[1:] == ['base', 'int8']\n"
        "assert not any(os.listdir(place) for place in places)\n"
        "pathlib.Path(os.environ['MAX_WHISPER_CACHE'], 'made').touch()\n"
    )
    monkeypatch.setattr(first_start, "PROGRAM", program)
    assert first_start.start("base", "int8", tmp_path) > 0
    assert [Path(path).name for path, _, files in os.walk(tmp_path) if files] == ["cache"]


def test_a_start_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_start, "PROGRAM", "raise SystemExit('no such model')")
    with pytest.raises(BenchmarkError, match="no such model"):
        first_start.start("base", "int8", tmp_path)

"""Runs faster-whisper's own tests against this package's front under the name ``faster_whisper``.

    git clone https://github.com/SYSTRAN/faster-whisper
    python scripts/run_faster_whisper_tests.py faster-whisper/tests [--instead MODEL] [PYTEST OPTION...]

The tests are taken as they are. Most ask for ``tiny``; where that is not on this machine, the model
that ``--instead`` names (``base``) takes its place. What they expect of ``tiny``'s very words then
fails: ``--reference`` runs the same tests with the installed faster-whisper and the same model, to
tell such failures from others. Left out are tests of downloads, and those whose recordings are
missing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


class HereOnly:
    """Leaves out tests that would download, or that have no recording."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leaves out the file that tests downloads."""
        return True if collection_path.name == "test_utils.py" else None

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Drops tests that cannot run on this machine."""
        dropped = [item for item in items if not self._can_run(item)]
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)

    @staticmethod
    def _can_run(item: pytest.Item) -> bool:
        data = Path(item.path).parent / "data"
        missing = not (data / "physicsworks.wav").is_file() or not (data / "physicsworks.wav").stat().st_size
        asks = getattr(item, "fixturenames", ())
        return not (missing and "physcisworks_path" in asks)


def stand_in(instead: str) -> None:
    """Puts max-whisper's front where ``import faster_whisper`` finds it."""
    from max_whisper import faster_whisper
    from max_whisper.checkpoints import list_models
    from max_whisper.faster_whisper import transcribe

    here = {model.name for model in list_models() if model.path is not None}
    load = transcribe.load_model

    def load_here(name: Any, *arguments: Any, **options: Any) -> Any:
        return load(name if name in here else instead, *arguments, **options)

    transcribe.load_model = load_here
    sys.modules["faster_whisper"] = faster_whisper
    for name in ("audio", "tokenizer", "transcribe", "vad"):
        sys.modules[f"faster_whisper.{name}"] = importlib.import_module(f"max_whisper.faster_whisper.{name}")


def refer(instead: str) -> None:
    """Lets the installed faster-whisper load a model of this machine, by its CTranslate2 directory."""
    import faster_whisper
    from faster_whisper import transcribe

    def find(name: str, **_: Any) -> str:
        return str(Path(instead) / name) if (Path(instead) / name).is_dir() else instead

    transcribe.download_model = find
    faster_whisper.download_model = find


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", type=Path)
    parser.add_argument("--instead", default="base", help="the model, or its directory with --reference")
    parser.add_argument("--reference", action="store_true")
    chosen, rest = parser.parse_known_args()
    (refer if chosen.reference else stand_in)(chosen.instead)
    # Rules of this repository, such as warnings being errors, are not those of these tests.
    options = ["-c", "/dev/null", "--rootdir", str(chosen.tests), "-p", "no:cacheprovider"]
    sys.exit(pytest.main([*options, str(chosen.tests), *rest], plugins=[HereOnly()]))

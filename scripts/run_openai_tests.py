"""Runs openai-whisper's own tests against this package under the name ``whisper``.

    git clone https://github.com/openai/whisper
    python scripts/run_openai_tests.py whisper/tests [PYTEST OPTION...]

The tests are taken as they are. Models that are not on this machine are left out, and so are tests
that compare kernels on a GPU. ``torch`` is imported by some for ``torch.cuda.is_available()``
alone; where it is not installed, a stand-in answers that.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import pytest

import max_whisper
from max_whisper.checkpoints import list_models

MODULES = (
    "audio tokenizer utils decoding transcribe timing model normalizers normalizers.basic normalizers.english"
)


class HereOnly:
    """Leaves out what cannot run on this machine."""

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Drops GPU tests and models that would have to be downloaded."""
        here = {model.name for model in list_models() if model.path is not None}
        dropped = [item for item in items if not self._can_run(item, here)]
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)

    @staticmethod
    def _can_run(item: pytest.Item, here: set[str]) -> bool:
        call = getattr(item, "callspec", None)
        name = call.params.get("model_name") if call else None
        return item.get_closest_marker("requires_cuda") is None and (name is None or name in here)


def stand_in() -> None:
    """Puts max-whisper where ``import whisper`` finds it."""
    sys.modules["whisper"] = max_whisper
    for name in MODULES.split():
        if importlib.util.find_spec(f"max_whisper.{name}"):
            sys.modules[f"whisper.{name}"] = importlib.import_module(f"max_whisper.{name}")
    if not importlib.util.find_spec("torch"):
        torch = types.ModuleType("torch")
        torch.cuda = types.SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
        sys.modules["torch"] = torch


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    stand_in()
    # Rules of this repository, such as warnings being errors, are not those of these tests.
    options = ["-c", "/dev/null", "--rootdir", sys.argv[1], "-p", "no:cacheprovider"]
    sys.exit(pytest.main([*options, *sys.argv[1:]], plugins=[HereOnly()]))

"""Every test here has its own caches and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from max_whisper.errors import CheckpointError


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder; the hub cannot be reached unless a test says otherwise."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MAX_WHISPER_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)

    def unreachable(repository: str, *_: Any, **__: Any) -> Path:
        raise CheckpointError(f"cannot fetch {repository} from the hub: no route")

    monkeypatch.setattr("max_whisper.checkpoints.load.fetch", unreachable)
    return home / "cache"

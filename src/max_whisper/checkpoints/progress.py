"""How a download is reported."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of a download as it goes on, perhaps from another thread."""

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """``done`` bytes of ``total`` (None: unknown) of what is called ``name`` are here."""

"""Names for the values along the model, so that they can be looked at."""

from __future__ import annotations

from max.graph import TensorValue


class Stages:
    """Collects a graph's intermediate values as further outputs; does nothing unless asked to."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._kept: dict[str, TensorValue] = {}

    def keep(self, name: str, value: TensorValue) -> TensorValue:
        """Keeps ``value`` under ``name`` if stages are wanted; hands it on either way."""
        if self.wanted:
            self._kept[name] = value
        return value

    def names(self) -> list[str]:
        """The names of what was kept, in the graph's order."""
        return list(self._kept)

    def values(self) -> list[TensorValue]:
        """What was kept, in the same order."""
        return list(self._kept.values())

"""The JSON files that stand beside a checkpoint's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from max_whisper.errors import CheckpointError


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CheckpointError: If it cannot be read or is not one.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not an object")
    return value


def alignment_heads(config: Mapping[str, Any], path: Path) -> tuple[tuple[int, int], ...] | None:
    """The (layer, head) pairs under ``alignment_heads``, None where there are none.

    Raises:
        CheckpointError: If the entry is not a list of pairs.
    """
    entry = config.get("alignment_heads")
    if entry is None:
        return None
    try:
        return tuple((int(layer), int(head)) for layer, head in entry)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: alignment_heads is not a list of (layer, head) pairs") from error

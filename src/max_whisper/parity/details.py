"""Two places that ports get wrong first: the convolutions and the position table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.parity.measure import Array

Stages = Mapping[str, Array]


@dataclass(frozen=True)
class Convolution:
    """One convolution's output against the reference, in the reference's standard deviations.

    Attributes:
        name: ``conv1`` or ``conv2``.
        worst_channel: The output channel with the greatest error, and that error.
        worst_position: The position with the greatest error, and that error.
        inside: The greatest error away from the edges.
        edges: The greatest errors at the first and at the last position, where padding enters.
    """

    name: str
    worst_channel: tuple[int, float]
    worst_position: tuple[int, float]
    inside: float
    edges: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check_convolutions(ours: Stages, reference: Stages) -> list[Convolution]:
    """Both convolutions, after their GELU."""
    found = []
    for name in ("conv1", "conv2"):
        if name in ours and name in reference and ours[name].shape == reference[name].shape:
            error = np.abs(ours[name].astype(np.float64) - reference[name]) / float(reference[name].std())
            channels, positions = error.max(axis=0), error.max(axis=1)
            found.append(
                Convolution(
                    name,
                    (int(channels.argmax()), float(channels.max())),
                    (int(positions.argmax()), float(positions.max())),
                    float(positions[1:-1].max()),
                    (float(positions[0]), float(positions[-1])),
                )
            )
    return found


def sinusoids(length: int, channels: int) -> Array:
    """The formula of the encoder's position table: sines in the first half, cosines in the other."""
    step = np.log(10000.0) / (channels // 2 - 1)
    angles = np.arange(length)[:, None] * np.exp(-step * np.arange(channels // 2))[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Positions:
    """The encoder's position table, greatest absolute differences.

    Attributes:
        stored: Between the checkpoint's table and the formula.
        ours: Between what our side adds and the checkpoint's table.
        reference: The same for the reference; None where it does not tell.
    """

    stored: float
    ours: float
    reference: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def check_positions(ours: Stages, reference: Stages | None, checkpoint: Checkpoint) -> Positions:
    """The stored table against the formula, and what each side adds against the stored table."""
    table = np.asarray(checkpoint.tensors["encoder.positional_embedding"], dtype=np.float32)
    theirs = None if reference is None else reference.get("positions")
    return Positions(
        float(np.abs(table - sinusoids(*table.shape)).max()),
        float(np.abs(ours["positions"] - table).max()),
        None if theirs is None else float(np.abs(theirs - table).max()),
    )

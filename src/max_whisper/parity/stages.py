"""The table of stages: where our side leaves the reference, and what is inside that place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.parity.measure import LOCAL, Array, Difference, ParityError, Side, Tolerance, measure

ENCODER_PARTS = ("attn_ln", "query", "key", "value", "attention", "out", "mlp_ln", "mlp_hidden", "mlp")
DECODER_PARTS = (
    *ENCODER_PARTS[:6],
    *("cross_attn_ln", "cross_query", "cross_attention", "cross_out"),
    *ENCODER_PARTS[6:],
)
_DETAIL = re.compile(r"((?:encoder|decoder)\.blocks\.\d+)\.\w+|(conv\d)\.linear")


def order(dims: ModelDimensions) -> list[str]:
    """Every stage in the order in which a forward pass reaches it."""
    names = ["mel", "conv1.linear", "conv1", "conv2.linear", "conv2", "positions", "encoder.input"]
    for i in range(dims.n_audio_layer):
        names += [f"encoder.blocks.{i}.{part}" for part in ENCODER_PARTS] + [f"encoder.blocks.{i}"]
    names.append("ln_post")
    names += [f"cross.{i}.{kind}" for i in range(dims.n_text_layer) for kind in ("key", "value")]
    names += ["tokens", "decoder.embedding"]
    for i in range(dims.n_text_layer):
        names += [f"decoder.blocks.{i}.{part}" for part in DECODER_PARTS] + [f"decoder.blocks.{i}"]
    return [*names, "ln", "logits"]


def parent(name: str) -> str | None:
    """The stage that a detail belongs to: ``encoder.blocks.3.key`` is inside ``encoder.blocks.3``."""
    found = _DETAIL.fullmatch(name)
    return (found.group(1) or found.group(2)) if found else None


@dataclass(frozen=True)
class Row:
    """One stage of the table.

    Attributes:
        name: The stage.
        difference: How far our side is off; None for ``tokens``, which are equal or not.
        error: Why the stage fails where that is not a matter of distance.
    """

    name: str
    difference: Difference | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the stage is as it should be."""
        return self.error is None and (self.difference is None or self.difference.passed)


@dataclass(frozen=True)
class Table:
    """All stages of one comparison.

    Attributes:
        rows: In the order of the computation.
        tolerance: What they were held to.
        absent: Stages that one side does not give, so that they were not compared.
    """

    rows: tuple[Row, ...]
    tolerance: Tolerance
    absent: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every stage is within tolerance."""
        return all(row.passed for row in self.rows)

    @property
    def first(self) -> Row | None:
        """The first stage, in the order of the computation, that diverges."""
        return next((row for row in self.rows if not row.passed), None)

    @property
    def verdict(self) -> str:
        """One sentence."""
        first = self.first
        if first is None:
            excused = sum(1 for row in self.rows if row.difference and row.difference.excused)
            but = f", {excused} of them but for positions that rounding moves" if excused else ""
            return f"all {len(self.rows)} stages within tolerance ({self.tolerance}{but})"
        inside = parent(first.name)
        where = first.name + (f" (inside {inside})" if inside else "")
        if first.error:
            return f"the first stage that diverges is {where}: {first.error}"
        assert first.difference is not None
        value, how, limit = first.difference.deviation, "off by", str(self.tolerance)
        local = first.difference.local
        if local is not None and not local <= LOCAL:
            value, how, limit = (
                local,
                "off from what follows from our own stage before it by",
                f"{LOCAL:g} sd",
            )
        if self.tolerance.rms < self.tolerance.greatest:
            value, how = first.difference.rms, "root mean square error"
        return (
            f"the first stage that diverges is {where}: {how} {value:.3g} standard deviations, "
            f"tolerance {limit}"
        )

    def shown(self) -> list[Row]:
        """The main stages, with the details of that one which diverges first."""
        first = self.first
        opened = None if first is None else parent(first.name) or first.name
        return [row for row in self.rows if parent(row.name) in (None, opened)]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "first": self.first.name if self.first else None,
            "tolerance": str(self.tolerance),
            "absent": list(self.absent),
            "stages": [
                {
                    "name": row.name,
                    "passed": row.passed,
                    "error": row.error,
                    **(row.difference.as_dict() if row.difference else {}),
                }
                for row in self.rows
            ],
        }


def compare_stages(
    ours: Mapping[str, Array],
    reference: Side,
    dims: ModelDimensions,
    tolerance: Tolerance,
    tokens: tuple[Sequence[int], Sequence[int]] | None = None,
    follows: Mapping[str, Array] | None = None,
) -> Table:
    """Measures every stage that both sides give.

    Args:
        ours: Our side's arrays, in full.
        reference: The reference's.
        dims: The model's dimensions; they give the order.
        tolerance: What is near enough.
        tokens: What our decoder and the reference's were fed. Where they differ, the decoder's
            stages have nothing to be compared with, and the table ends at ``tokens``.
        follows: What each of our stages is if it is computed from our own stage before it, as
            :meth:`~max_whisper.parity.numpy_model.NumpyWhisper.follow` has it; without it no position of
            a stage is excused.

    Raises:
        ParityError: If the two sides have no stage in common.
    """
    theirs = set(reference.names())
    names = order(dims)
    same_tokens = tokens is None or list(tokens[0]) == list(tokens[1])
    if not same_tokens:
        names = names[: names.index("tokens") + 1]
    rows: list[Row] = []
    for name in names:
        if name == "tokens":
            if tokens is not None:
                rows.append(_tokens_row(*tokens))
        elif name in ours and name in theirs:
            rows.append(_row(name, ours[name], reference, tolerance, (follows or {}).get(name)))
    if not any(row.difference for row in rows):
        raise ParityError("the two sides have no stage in common")
    absent = tuple(name for name in names if name != "tokens" and (name in ours) != (name in theirs))
    return Table(tuple(rows), tolerance, absent)


def _row(name: str, array: Array, reference: Side, tolerance: Tolerance, follows: Array | None) -> Row:
    try:
        return Row(name, difference=measure(name, array, reference, tolerance, follows))
    except ParityError as error:
        return Row(name, error=str(error))


def _tokens_row(ours: Sequence[int], reference: Sequence[int]) -> Row:
    """The tokens that go into the decoder, as a stage of its own."""
    if list(ours) == list(reference):
        return Row("tokens")
    at = next((i for i, (a, b) in enumerate(zip(ours, reference)) if a != b), min(len(ours), len(reference)))
    found, expected = (list(side[at : at + 3]) for side in (ours, reference))
    return Row("tokens", error=f"at position {at} our decoder is fed {found}, the reference's {expected}")

"""One side's encoder with the other side's decoder, and everything in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from max_whisper.parity.measure import Array
from max_whisper.parity.processes import Workshop
from max_whisper.parity.transcripts import word_error_rate

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Hybrid:
    """One mixture's text.

    Attributes:
        decoder: The engine that decoded.
        encoder: What it heard: ``t = 0.25`` of the reference's features, or the stage up to which
            the encoder was ours.
        text: What came out.
        word_error_rate: Against the reference's own text of the window.
    """

    decoder: str
    encoder: str
    text: str
    word_error_rate: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Hybrids:
    """Mixtures of features over ``STEPS`` for both decoders, and grafts into the reference."""

    mixed: tuple[Hybrid, ...]
    grafted: tuple[Hybrid, ...]

    @property
    def same(self) -> bool:
        """Whether every mixture gives the same text."""
        return len({hybrid.text for hybrid in (*self.mixed, *self.grafted)}) <= 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "same": self.same,
            "steps": list(STEPS),
            "mixed": [hybrid.as_dict() for hybrid in self.mixed],
            "grafted": [hybrid.as_dict() for hybrid in self.grafted],
        }


def try_hybrids(
    workshop: Workshop,
    engines: tuple[str, str],
    ours: Mapping[str, Array],
    reference: Mapping[str, Array],
    inputs: tuple[Array, Sequence[int]],
    options: Mapping[str, Any],
    language: str | None,
) -> Hybrids:
    """Decodes one window from features mixed as ``(1 - t) * ours + t * reference``, and from grafts.

    Args:
        workshop: Runs the engines.
        engines: Our engine and the reference's.
        ours: Our stages.
        reference: The reference's stages.
        inputs: The window's log-mel, and the tokens that the stages were computed with.
        options: Of decoding.
        language: For the error rate's normaliser.
    """
    pair = ours["ln_post"], reference["ln_post"]
    features = np.stack([(1 - t) * pair[0] + t * pair[1] for t in STEPS]).astype(np.float32)
    texts = {engine: workshop.decode(engine, features, options).result["texts"] for engine in engines}
    expected = texts[engines[1]][-1]

    def hybrid(decoder: str, encoder: str, text: str) -> Hybrid:
        return Hybrid(decoder, encoder, text, word_error_rate(expected, text, language))

    mixed = [
        hybrid(engine, f"t = {t:g}", text) for engine in engines for t, text in zip(STEPS, texts[engine])
    ]
    blocks = [name for name in ours if name.startswith("encoder.blocks.") and name.count(".") == 2]
    grafts = {name: ours[name] for name in ("encoder.input", *blocks)}
    reply = workshop.graft(engines[1], *inputs, grafts, options).result
    grafted = [
        hybrid(engines[1], f"ours up to {stage}", text)
        for stage, text in zip(reply["stages"], reply["texts"])
    ]
    return Hybrids(tuple(mixed), tuple(grafted))

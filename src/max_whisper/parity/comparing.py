"""Many engines on one recording, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from max_whisper.errors import MaxWhisperError
from max_whisper.parity.measure import Array
from max_whisper.parity.processes import OURS, Reply, Workshop
from max_whisper.parity.transcripts import Comparison, compare_transcripts, word_error_rate


@dataclass(frozen=True)
class Report:
    """The engines' transcripts, measured.

    Attributes:
        reference: Which of them is the reference.
        rows: One an engine, in the order asked for.
        reference_text: The reference's text; None where it failed.
        tolerance: The greatest word error rate against the reference that our side may have.
        exact: Whether our side's tokens must be the reference's.
        seconds: Of the recording.
    """

    reference: str
    rows: tuple[Comparison, ...]
    reference_text: str | None
    tolerance: float
    exact: bool
    seconds: float

    @property
    def faults(self) -> list[str]:
        """All that keeps the comparison from passing, in words."""
        found = []
        for row in self.rows:
            if row.error:
                found.append(row.error if row.backend in row.error else f"{row.backend}: {row.error}")
            elif row.backend in OURS and self.reference_text is not None:
                if row.stops:
                    found.append(f"{row.backend}: {row.stops}")
                elif self.exact and row.difference:
                    found.append(f"{row.backend}: {row.difference}")
                elif row.word_error_rate is not None and row.word_error_rate > self.tolerance:
                    rate = f"{100 * row.word_error_rate:.2f} %"
                    found.append(f"{row.backend}: word error rate {rate} against {self.reference}")
        return found

    @property
    def passed(self) -> bool:
        """Whether every engine ran, and our side is within tolerance."""
        return not self.faults

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.faults:
            return "; ".join(self.faults)
        ours = [row.backend for row in self.rows if row.backend in OURS and row.backend != self.reference]
        if not ours:
            return "all backends ran; none of them is our side"
        how = "same tokens as" if self.exact else "same words as"
        return f"{', '.join(ours)}: {how} {self.reference}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "reference": self.reference,
            "reference_text": self.reference_text,
            "seconds": self.seconds,
            "backends": [row.as_dict() for row in self.rows],
        }


def compare(
    workshop: Workshop,
    samples: Array,
    backends: Sequence[str],
    reference: str,
    options: Mapping[str, Any],
    transcript: str | None = None,
) -> Report:
    """Transcribes a recording with every backend, one after the other.

    A backend that fails has its error for a row. Where the reference fails, the others are
    measured, but compared with nothing, and the comparison does not pass.

    Args:
        workshop: Runs the engines.
        samples: The recording, 16 kHz.
        backends: Names; the reference among them.
        reference: Whose transcript the others are held to.
        options: openai-whisper's transcription options.
        transcript: What is said, if known.
    """
    seconds = len(samples) / 16000
    order = [reference, *(name for name in backends if name != reference)]
    replies: dict[str, Reply | str] = {}
    for name in order:
        try:
            replies[name] = workshop.transcribe(name, samples, options)
        except MaxWhisperError as error:
            replies[name] = str(error)
    expected = replies[reference]
    rows = [_row(name, replies[name], expected, seconds, transcript) for name in backends]
    exact = workshop.setting.precision == "float32"
    return Report(
        reference,
        tuple(rows),
        expected.result["text"] if isinstance(expected, Reply) else None,
        0.0 if exact else 0.01,
        exact,
        seconds,
    )


def _row(
    name: str, reply: Reply | str, expected: Reply | str, seconds: float, transcript: str | None
) -> Comparison:
    if isinstance(reply, str):
        return Comparison(name, error=reply)
    if isinstance(expected, Reply):
        language = expected.result["language"]
        row = compare_transcripts(
            name, expected.result, reply.result, language=language, transcript=transcript
        )
    else:
        text, language = reply.result["text"], reply.result["language"]
        rate = None if transcript is None else word_error_rate(transcript, text, language)
        row = Comparison(name, text=text, characters=len(text), transcript_error_rate=rate)
    return replace(
        row,
        load_seconds=reply.load_seconds,
        seconds=reply.seconds,
        rtfx=seconds / reply.seconds,
        peak_bytes=reply.peak_bytes,
    )

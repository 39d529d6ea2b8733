"""The whole examination of our side against one reference, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.parity.attention import Head, alignment_picture, compare_heads
from max_whisper.parity.audit import audit
from max_whisper.parity.details import Convolution, Positions, check_convolutions, check_positions
from max_whisper.parity.engine import first_window, tokenizer_of
from max_whisper.parity.faults import find_fault
from max_whisper.parity.hybrids import Hybrids, try_hybrids
from max_whisper.parity.measure import TOLERANCES, Array, ParityError, Side, Stored, Whole
from max_whisper.parity.numpy_model import NumpyWhisper
from max_whisper.parity.processes import Reply, Workshop
from max_whisper.parity.stages import Table, compare_stages
from max_whisper.parity.transcripts import Comparison, compare_transcripts

#: The word error rate against the reference that a window's text may have below float32.
WORD_ERRORS = 0.02


@dataclass(frozen=True)
class Plan:
    """What to examine.

    Attributes:
        ours: ``max`` or ``numpy``.
        reference: A backend's name, or the path of a file of stored stages.
        options: openai-whisper's transcription options, for both sides.
        start: Where the examined window starts, in seconds.
        attention: Whether to compare attention weights.
        hybrids: Whether to mix the two sides.
    """

    ours: str = "max"
    reference: str = "openai-cpu"
    options: Mapping[str, Any] = field(default_factory=dict)
    start: float = 0.0
    attention: bool = True
    hybrids: bool = False

    @property
    def stored(self) -> bool:
        """Whether the reference is a file."""
        return self.reference.endswith(".npz")


@dataclass(frozen=True)
class Picture:
    """Cross-attention of the alignment heads on both sides.

    Attributes:
        ours: (tokens, n_audio_ctx) mean weights.
        reference: The same of the reference.
        labels: Each token's text.
        seconds: How much of the window is speech; the rest is not drawn.
    """

    ours: Array
    reference: Array
    labels: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        plan: What was examined.
        first: The place where our side first leaves the reference: a stage's name, or
            ``reference``, ``windows`` or ``text``; None where it never does.
        verdict: One sentence.
        table: The stages; None where the reference cannot be trusted.
        comparison: Our transcript against the reference's.
        reference_text: The reference's transcript.
        heads: Attention head by head.
        picture: For drawing.
        convolutions: The convolutions' errors.
        positions: The position tables.
        hybrids: Mixtures of the two sides.
    """

    plan: Plan
    first: str | None
    verdict: str
    table: Table | None = None
    comparison: Comparison | None = None
    reference_text: str | None = None
    heads: tuple[Head, ...] = ()
    picture: Picture | None = None
    convolutions: tuple[Convolution, ...] = ()
    positions: Positions | None = None
    hybrids: Hybrids | None = None

    @property
    def passed(self) -> bool:
        """Whether all tolerances hold."""
        return self.first is None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "passed": self.passed,
            "first": self.first,
            "verdict": self.verdict,
            "ours": self.plan.ours,
            "reference": self.plan.reference,
            "options": dict(self.plan.options),
            "start": self.plan.start,
            "table": self.table.as_dict() if self.table else None,
            "comparison": self.comparison.as_dict() if self.comparison else None,
            "reference_text": self.reference_text,
            "heads": [head.as_dict() for head in self.heads],
            "convolutions": [each.as_dict() for each in self.convolutions],
            "positions": self.positions.as_dict() if self.positions else None,
            "hybrids": self.hybrids.as_dict() if self.hybrids else None,
        }


def inspect_stored(workshop: Workshop, samples: Array, plan: Plan) -> Inspection:
    """Examines the stages alone, against a file that holds the reference's.

    Raises:
        MaxWhisperError: If a side cannot be run or read.
    """
    dims = workshop.checkpoint.dims
    reference = Stored(plan.reference)
    mel = first_window(samples, dims.n_mels, plan.start)
    table, ours = _table(workshop, plan, mel, reference.tokens, reference)
    positions = check_positions(ours, None, workshop.checkpoint)
    return _concluded(Inspection(plan, None, "", table, positions=positions))


def inspect(workshop: Workshop, samples: Array, plan: Plan) -> Inspection:
    """Examines everything that the plan asks for.

    Args:
        workshop: Runs the engines; its setting says which fault is planted.
        samples: The recording, 16 kHz.
        plan: What to examine.

    Raises:
        MaxWhisperError: If a side cannot be run.
    """
    if plan.stored:
        return inspect_stored(workshop, samples, plan)
    checkpoint, plant = workshop.checkpoint, workshop.setting.plant
    expected = workshop.transcribe(plan.reference, samples, plan.options)
    language = expected.result["language"]
    tokens = _window_tokens(checkpoint, expected.result, plan)
    mel = first_window(samples, checkpoint.dims.n_mels, plan.start)
    staged = workshop.stages(plan.reference, mel, tokens)
    reference = staged.stages()
    fault = find_fault(plant) if plant else None
    if fault and fault.reference:
        reference = fault.reference(reference)
    if broken := audit(reference, checkpoint, mel, tokens):
        verdict = f"the reference cannot be trusted: {broken}"
        return Inspection(plan, "reference", verdict, reference_text=expected.result["text"])

    table, ours = _table(workshop, plan, mel, tokens, Whole(reference))
    found = workshop.transcribe(plan.ours, samples, plan.options)
    inspection = Inspection(
        plan,
        None,
        "",
        table,
        _compared(plan.ours, expected, found, len(samples) / 16000),
        expected.result["text"],
        convolutions=tuple(check_convolutions(ours, reference)),
        positions=check_positions(ours, reference, checkpoint),
    )
    if plan.attention:
        inspection = _with_attention(inspection, checkpoint, ours, reference, tokens, len(samples) / 16000)
    if plan.hybrids:
        decoding = {"language": language, **{k: v for k, v in plan.options.items() if k in _DECODING}}
        both, inputs = (plan.ours, plan.reference), (mel, tokens)
        hybrids = try_hybrids(workshop, both, ours, reference, inputs, decoding, language)
        inspection = replace(inspection, hybrids=hybrids)
    return _concluded(inspection, exact=workshop.setting.precision == "float32")


_DECODING = ("task", "language", "beam_size", "patience", "length_penalty")


def _window_tokens(checkpoint: Checkpoint, result: Mapping[str, Any], plan: Plan) -> list[int]:
    """What the decoder is fed: the start of the transcript, and the reference's own tokens."""
    task = plan.options.get("task") or "transcribe"
    start = tokenizer_of(checkpoint, result["language"], task).sot_sequence
    seek = round(plan.start * 100)
    tokens = [t for s in result["segments"] if s["seek"] == seek for t in s["tokens"]]
    return [*start, *tokens][: checkpoint.dims.n_text_ctx]


def _table(
    workshop: Workshop, plan: Plan, mel: Array, tokens: Sequence[int], reference: Side
) -> tuple[Table, dict[str, Array]]:
    reply = workshop.stages(plan.ours, mel, tokens)
    ours, setting = reply.stages(), workshop.setting
    if setting.precision not in TOLERANCES:
        known = ", ".join(TOLERANCES)
        raise ParityError(f"no tolerance is known for precision {setting.precision!r}, only for {known}")
    fed = reply.result["tokens"], list(tokens)
    tolerance, checkpoint = TOLERANCES[setting.precision], workshop.checkpoint
    follows = None
    same = all(ours[name].shape == reference.shape(name) for name in reference.names() if name in ours)
    if tolerance.of_elements and same:
        follows = NumpyWhisper(checkpoint).follow(mel, fed[0], ours)
    return compare_stages(ours, reference, checkpoint.dims, tolerance, fed, follows), ours


def _compared(backend: str, expected: Reply, found: Reply, seconds: float) -> Comparison:
    language = expected.result["language"]
    comparison = compare_transcripts(backend, expected.result, found.result, language=language)
    return replace(
        comparison,
        load_seconds=found.load_seconds,
        seconds=found.seconds,
        rtfx=seconds / found.seconds,
        peak_bytes=found.peak_bytes,
    )


def _with_attention(
    inspection: Inspection,
    checkpoint: Checkpoint,
    ours: Mapping[str, Array],
    reference: Mapping[str, Array],
    tokens: Sequence[int],
    seconds: float,
) -> Inspection:
    dims, alignment = checkpoint.dims, checkpoint.alignment_heads or ()
    heads = compare_heads(ours, reference, dims, alignment)
    picture = None
    needed = {name for layer, _ in alignment for name in _alignment_stages(layer)}
    if alignment and needed <= set(ours):
        tokenizer = tokenizer_of(checkpoint, None, "transcribe")
        picture = Picture(
            alignment_picture(ours, dims, alignment),
            alignment_picture(reference, dims, alignment),
            tuple(tokenizer.decode_with_timestamps([token]) for token in tokens),
            min(30.0, seconds - inspection.plan.start),
        )
    return replace(inspection, heads=tuple(heads), picture=picture)


def _alignment_stages(layer: int) -> tuple[str, str]:
    return f"decoder.blocks.{layer}.cross_query", f"cross.{layer}.key"


def _said(comparison: Comparison | None) -> str:
    if comparison is None:
        return "no transcript compared"
    return "same tokens" if comparison.same_tokens else f"word error rate {comparison.word_error_rate:.4f}"


def _concluded(inspection: Inspection, *, exact: bool = True) -> Inspection:
    """Names the first place at which something is wrong.

    Below float32 (not ``exact``) it is the words that must agree, not every token.
    """
    table, comparison = inspection.table, inspection.comparison
    assert table is not None
    if table.first:
        first, verdict = table.first.name, table.verdict
    elif comparison and comparison.stops:
        first, verdict = "windows", f"the stages agree, but {comparison.stops}"
    elif comparison and exact and comparison.difference:
        first, verdict = "text", f"the stages agree, but the text does not: {comparison.difference}"
    elif inspection.hybrids and not inspection.hybrids.same:
        first, verdict = "hybrids", "the stages agree, but mixtures of the two sides do not give one text"
    elif comparison and (comparison.word_error_rate or 0.0) > WORD_ERRORS:
        rate = f"{100 * (comparison.word_error_rate or 0.0):.2f} %"
        first, verdict = "text", f"the stages agree, but the word error rate is {rate}"
    else:
        first, verdict = None, f"{table.verdict}; {_said(comparison)}"
    return replace(inspection, first=first, verdict=verdict)

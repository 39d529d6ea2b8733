"""How much a model has to compute and to read, and how near to the processor's limits it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from max_whisper.checkpoints import ModelDimensions

#: Bytes of a weight, of one of the vocabulary, and of a cached cross-attention key or value, by precision.
#: Published weights fit into float16, and the float32 tier keeps them so; int8 looks at the vocabulary in
#: four bits.
WEIGHT_BYTES = {"float32": 2.0, "bfloat16": 2.0, "int8": 1.0}
HEAD_BYTES = {"float32": 2.0, "bfloat16": 2.0, "int8": 0.5}
CROSS_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Work:
    """The work of one model.

    Attributes:
        linear: Operations (multiplications and additions) of one window's linear layers and
            convolutions, the keys and values for the decoder included.
        attention: Operations of one window's attention.
        step_weights: Weights of the decoder's blocks, which a pass reads whatever the number of its tokens.
        head_weights: The same of the vocabulary.
        cross_values: Keys and values of one window that a pass reads.
    """

    linear: int
    attention: int
    step_weights: int
    head_weights: int
    cross_values: int


def model_work(dims: ModelDimensions) -> Work:
    """The work of a model with those dimensions."""
    d, frames, layers = dims.n_audio_state, dims.n_audio_ctx, dims.n_audio_layer
    convolutions = 2 * 3 * d * (2 * frames * dims.n_mels + frames * d)
    blocks = layers * 2 * frames * 12 * d * d
    cross = dims.n_text_layer * 2 * frames * 2 * d * d
    return Work(
        linear=convolutions + blocks + cross,
        attention=layers * 2 * 2 * frames * frames * d,
        step_weights=dims.n_text_layer * 14 * d * d,
        head_weights=dims.n_vocab * d,
        cross_values=dims.n_text_layer * 2 * frames * d,
    )


def condense(stages: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What is kept of a run's calls.

    Args:
        stages: ``encodes``: seconds of each; ``passes``: (tokens, outputs, windows, seconds) of each.
        seconds: Of the whole run.

    Returns:
        Shares of the run's time, counts, and the medians in seconds: of an encoded window, and of
        a step (a pass with one token a row, not a prompt).
    """
    encodes: Sequence[float] = stages["encodes"]
    passes: Sequence[Sequence[float]] = stages["passes"]
    steps = [each for each in passes if each[0] == each[1]]
    encoding, forward = sum(encodes), sum(each[3] for each in passes)
    return {
        "encode_share": encoding / seconds,
        "forward_share": forward / seconds,
        "rest_share": 1 - (encoding + forward) / seconds,
        "windows": len(encodes),
        "passes": len(passes),
        "encode": median(encodes) if encodes else None,
        "step": median(each[3] for each in steps) if steps else None,
        "step_tokens": median(each[0] for each in steps) if steps else None,
        "step_windows": median(each[2] for each in steps) if steps else None,
    }


def fractions(
    condensed: Mapping[str, Any], work: Work, precision: str, limits: Mapping[str, float]
) -> dict[str, float | None]:
    """The least time that the processor's limits allow, over the time taken.

    All products count at the tier's rate. A step counts as reading: the weights once, keys and values
    for every window; self-attention's cache is left out.

    Args:
        condensed: See :func:`condense`.
        work: The model's.
        precision: The tier.
        limits: See :func:`benchmarks.peak.measure_peak`; empty: not measured.
    """
    found: dict[str, float | None] = {"encode": None, "step": None}
    rate = limits.get(precision)
    memory = limits.get("memory")
    if rate and condensed["encode"]:
        found["encode"] = (work.linear + work.attention) / rate / condensed["encode"]
    if memory and condensed["step"]:
        weights = work.step_weights * WEIGHT_BYTES[precision] + work.head_weights * HEAD_BYTES[precision]
        cross = work.cross_values * CROSS_BYTES[precision] * condensed["step_windows"]
        found["step"] = (weights + cross) / memory / condensed["step"]
    return found

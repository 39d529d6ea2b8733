"""Faults to plant on our side, to see that the lab finds them where they are.

Each is one that a real port of Whisper had. Most change an array on its way in: the features,
the weights, the tokens, the encoder's output. Two sit inside the compiled graph, where no array
reaches; those are planted in the numpy model instead, which then stands for our side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.errors import OptionError
from max_whisper.parity.measure import Array
from max_whisper.parity.numpy_model import Variation

Weights = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        name: As ``--plant`` takes it.
        stage: Where the lab must say that it is: this stage or a detail inside it.
        about: What is done, in a sentence.
        mel: Changes the features (n_mels, frames).
        weights: Changes tensors; gives the changed ones alone.
        features: Changes the encoder's output, given it and, if it ``needs_last``, the last
            block's (else the output again).
        needs_last: See ``features``.
        tokens: Changes the tokens that the decoder is fed, given the two task tokens' ids.
        variation: Changes the computation itself.
        reference: Changes the reference's arrays: the fault is not on our side.
        first_window_only: Our side hears the first 30 seconds alone.
    """

    name: str
    stage: str
    about: str
    mel: Callable[[Array], Array] | None = None
    weights: Callable[[Weights], Weights] | None = None
    features: Callable[[Array, Array], Array] | None = None
    needs_last: bool = False
    tokens: Callable[[list[int], int, int], list[int]] | None = None
    variation: Variation = field(default_factory=Variation)
    reference: Callable[[dict[str, Array]], dict[str, Array]] | None = None
    first_window_only: bool = False

    def plant(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with this fault's weights."""
        if self.weights is None:
            return checkpoint
        changed = {**checkpoint.tensors, **self.weights(checkpoint.tensors)}
        # Another content needs another name in every cache.
        name = f"{checkpoint.fingerprint} with {self.name}"
        return replace(checkpoint, tensors=changed, fingerprint=hashlib.sha256(name.encode()).hexdigest())


def _decibels(mel: Array) -> Array:
    """Undoes Whisper's log10 compression and compresses in decibels, (x + 4) / 4, instead."""
    return np.asarray((10.0 * (mel * 4.0 - 4.0) + 4.0) / 4.0, dtype=np.float32)


def _swapped(weights: Weights) -> Weights:
    """Reads the convolutions' (out, in, 3) memory as (out, 3, in)."""
    names = ("encoder.conv1.weight", "encoder.conv2.weight")
    return {
        name: np.ascontiguousarray(w.reshape(w.shape[0], 3, w.shape[1]).transpose(0, 2, 1))
        for name, w in ((name, weights[name]) for name in names)
    }


def _shifted(weights: Weights) -> Weights:
    """Starts the encoder's position table at its second row."""
    name = "encoder.positional_embedding"
    return {name: np.roll(weights[name], -1, axis=0)}


def _noise(stages: dict[str, Array]) -> dict[str, Array]:
    """Puts noise where the reference's encoder output was."""
    shape = stages["ln_post"].shape
    return {**stages, "ln_post": (np.random.default_rng(0).standard_normal(shape) * 0.4).astype(np.float32)}


def _translating(tokens: list[int], transcribe: int, translate: int) -> list[int]:
    """Puts the translate token in place of the task token, or after the first where there is none."""
    if transcribe in tokens:
        return [translate if token == transcribe else token for token in tokens]
    return [tokens[0], translate, *tokens[1:]]


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("mel-scale", "mel", "features in decibels instead of log10", mel=_decibels),
        Fault("conv-axes", "conv1", "convolution weights with two axes swapped", weights=_swapped),
        Fault("tanh-gelu", "conv1", "GELU by its tanh approximation", variation=Variation(tanh_gelu=True)),
        Fault("shifted-positions", "positions", "the position table one row off", weights=_shifted),
        Fault(
            "no-ln-post",
            "ln_post",
            "the encoder without its last norm",
            features=lambda out, last: last,
            needs_last=True,
        ),
        Fault(
            "scaled-features",
            "ln_post",
            "the encoder's output times 0.276",
            features=lambda out, last: out * np.float32(0.276),
        ),
        Fault("task-token", "tokens", "translate in place of transcribe", tokens=_translating),
        Fault(
            "no-mask",
            "decoder.blocks.0.attention",
            "the decoder sees the tokens after its own",
            variation=Variation(causal=False),
        ),
        Fault("noise-reference", "reference", "noise for the reference's encoder output", reference=_noise),
        Fault("one-window", "windows", "only the first 30 seconds are transcribed", first_window_only=True),
    )
}


def find_fault(name: str) -> Fault:
    """The fault of that name.

    Raises:
        OptionError: If there is none.
    """
    if name not in FAULTS:
        raise OptionError(f"there is no fault {name!r}; the faults are {', '.join(FAULTS)}")
    return FAULTS[name]

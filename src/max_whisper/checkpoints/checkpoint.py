"""What every checkpoint format becomes: dimensions and canonical arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ModelDimensions:
    """Whisper's dimensions, named as openai-whisper's ``model.ModelDimensions``."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    @property
    def is_multilingual(self) -> bool:
        """Whether the vocabulary has language tokens (openai-whisper: ``n_vocab >= 51865``)."""
        return self.n_vocab >= 51865

    @property
    def num_languages(self) -> int:
        """How many language tokens the vocabulary has (99, or 100 from large-v3 on)."""
        return self.n_vocab - 51765 - int(self.is_multilingual)


@dataclass(frozen=True)
class Checkpoint:
    """One loaded checkpoint, whatever file format it came in.

    Attributes:
        dims: The model's dimensions, read from the file.
        tensors: Arrays under openai-whisper's state-dict names (``encoder.conv1.weight``,
            ``decoder.blocks.0.cross_attn.key.weight``, ...), complete and of the right
            shapes. They keep the file's dtype (float16, float32; bfloat16 and quantised ones
            widened to float32) and are mostly views of a memory map: read-only, and not
            necessarily aligned. Linear weights are (out, in).
        fingerprint: SHA-256 (hex) that identifies the tensors' content, for caches.
        vocabulary: Byte-pair ranks of the ordinary tokens, ``token bytes -> id``, or None where
            the format carries none (OpenAI's ``.pt``).
        alignment_heads: (layer, head) pairs of the decoder whose cross-attention follows the
            audio, or None where the format does not say.
        source: The path or name that the user gave, for messages.
    """

    dims: ModelDimensions
    tensors: Mapping[str, NDArray[np.generic[Any]]]
    fingerprint: str
    vocabulary: Mapping[bytes, int] | None
    alignment_heads: tuple[tuple[int, int], ...] | None
    source: str

"""A random Whisper, small enough to compute by hand."""

from __future__ import annotations

import numpy as np

from max_whisper.checkpoints import Checkpoint, ModelDimensions, expected_shapes

DIMS = ModelDimensions(
    n_mels=80,
    n_audio_ctx=1500,
    n_audio_state=8,
    n_audio_head=2,
    n_audio_layer=2,
    n_vocab=51864,
    n_text_ctx=32,
    n_text_state=8,
    n_text_head=2,
    n_text_layer=2,
)


def tiny_checkpoint(source: str = "tiny") -> Checkpoint:
    random = np.random.default_rng(1)
    tensors = {
        name: (random.standard_normal(shape) * 0.2).astype(np.float32)
        for name, shape in expected_shapes(DIMS).items()
    }
    return Checkpoint(DIMS, tensors, "0" * 64, None, ((1, 0),), source)

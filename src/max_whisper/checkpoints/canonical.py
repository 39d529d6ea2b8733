"""The names and shapes that every format is brought to, and the check that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.errors import CheckpointError

Tensor: TypeAlias = NDArray[Any]

_MOST_LAYERS = 1024  # bounds the work that damaged dimensions can cause


@dataclass(frozen=True)
class Contents:
    """What one format's reader gives: everything of a ``Checkpoint`` that stands in the files.

    Attributes:
        dims: The model's dimensions.
        tensors: Arrays under canonical names, checked by :func:`check_tensors`.
        vocabulary: Ordinary tokens, ``bytes -> id``, or None.
        alignment_heads: (layer, head) pairs, or None.
    """

    dims: ModelDimensions
    tensors: Mapping[str, Tensor]
    vocabulary: Mapping[bytes, int] | None
    alignment_heads: tuple[tuple[int, int], ...] | None


def expected_shapes(dims: ModelDimensions) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Whisper model with its shape, as in openai-whisper's state dict.

    Linear weights are (out, in), convolutions (out, in, 3). Key projections have no bias, and
    the output head is the token embedding.
    """
    audio, text = dims.n_audio_state, dims.n_text_state
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.positional_embedding": (dims.n_audio_ctx, audio),
        "encoder.conv1.weight": (audio, dims.n_mels, 3),
        "encoder.conv1.bias": (audio,),
        "encoder.conv2.weight": (audio, audio, 3),
        "encoder.conv2.bias": (audio,),
    }
    for layer in range(dims.n_audio_layer):
        shapes.update(_block(f"encoder.blocks.{layer}", audio, cross=False))
    shapes.update(_affine("encoder.ln_post", audio))
    shapes["decoder.token_embedding.weight"] = (dims.n_vocab, text)
    shapes["decoder.positional_embedding"] = (dims.n_text_ctx, text)
    for layer in range(dims.n_text_layer):
        shapes.update(_block(f"decoder.blocks.{layer}", text, cross=True))
    shapes.update(_affine("decoder.ln", text))
    return shapes


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _block(name: str, width: int, *, cross: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    for attention in ("attn", "cross_attn") if cross else ("attn",):
        yield from _affine(f"{name}.{attention}_ln", width)
        yield from _affine(f"{name}.{attention}.query", width, width)
        yield f"{name}.{attention}.key.weight", (width, width)
        yield from _affine(f"{name}.{attention}.value", width, width)
        yield from _affine(f"{name}.{attention}.out", width, width)
    yield from _affine(f"{name}.mlp_ln", width)
    yield from _affine(f"{name}.mlp.0", 4 * width, width)
    yield from _affine(f"{name}.mlp.2", width, 4 * width)


def check_dimensions(dims: ModelDimensions, where: str) -> None:
    """Refuses dimensions that no Whisper model can have.

    Raises:
        CheckpointError: Naming the dimension.
    """
    for field in fields(dims):
        value = getattr(dims, field.name)
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{where}: dimension {field.name} is {value!r}, not a positive integer")
    for layers in ("n_audio_layer", "n_text_layer"):
        if getattr(dims, layers) > _MOST_LAYERS:
            raise CheckpointError(
                f"{where}: dimension {layers} is {getattr(dims, layers)}; the file is damaged"
            )
    for side in ("audio", "text"):
        state, heads = getattr(dims, f"n_{side}_state"), getattr(dims, f"n_{side}_head")
        if state % heads:
            raise CheckpointError(
                f"{where}: n_{side}_state {state} is not a multiple of n_{side}_head {heads}"
            )
    if dims.n_audio_state != dims.n_text_state:
        raise CheckpointError(
            f"{where}: n_audio_state {dims.n_audio_state} and n_text_state {dims.n_text_state} differ; "
            "Whisper's cross-attention needs them equal"
        )


def check_tensors(dims: ModelDimensions, tensors: Mapping[str, Tensor], where: str) -> None:
    """Holds ``tensors`` to exactly the names, shapes and types of a model with ``dims``.

    Args:
        dims: The dimensions that the file declares.
        tensors: Arrays under canonical names.
        where: The file, for the message.

    Raises:
        CheckpointError: Naming every missing, unexpected or wrong tensor.
    """
    check_dimensions(dims, where)
    expected = expected_shapes(dims)
    faults = [f"missing {name} {shape}" for name, shape in expected.items() if name not in tensors]
    for name, tensor in tensors.items():
        if name not in expected:
            faults.append(f"unexpected {name} {tensor.shape}")
        elif tensor.shape != expected[name]:
            faults.append(f"{name} has shape {tensor.shape}, not {expected[name]}")
        elif tensor.dtype not in (np.float16, np.float32):
            faults.append(f"{name} has type {tensor.dtype}, not float16 or float32")
    if faults:
        raise CheckpointError(
            f"{where} is not a Whisper checkpoint of its own dimensions: {'; '.join(faults)}"
        )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuses infinities and NaN. Reads every value: done once for a file, then remembered.

    Raises:
        CheckpointError: Naming every tensor at fault.
    """
    faulty = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if faulty:
        raise CheckpointError(f"{where} holds values that are not finite, in {', '.join(faulty)}")

"""whisper.cpp's ggml ``.bin`` files.

Little endian: the magic, eleven dimensions and the file type as int32; the mel filter bank (n_mels,
n_fft int32, then float32); the ordinary tokens in order of id, each an int32 length and its bytes;
then tensors until the end: int32 axes, name length and type, the axes from the fastest to the
slowest, the name, the data.

The names are openai-whisper's own: ``encoder.blocks.0.attn.query.weight`` stays what it is. Axes are
reversed; the two convolution biases are stored as (n, 1). Quantised tensors are blocks of 32 numbers
along the fastest axis, brought to float32 by ggml's own formulas.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.canonical import Contents, Tensor, check_dimensions, check_tensors
from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.checkpoints.files import MappedFile
from max_whisper.checkpoints.vocabulary import END_OF_TEXT
from max_whisper.errors import CheckpointError

BLOCK = 32  # numbers that share a scale
_LAYOUT = 2  # of the quantised blocks: thousands of the file type

_HEADER = (  # after the magic; the file type follows
    "n_vocab",
    "n_audio_ctx",
    "n_audio_state",
    "n_audio_head",
    "n_audio_layer",
    "n_text_ctx",
    "n_text_state",
    "n_text_head",
    "n_text_layer",
    "n_mels",
)
_CONVOLUTION_BIASES = ("encoder.conv1.bias", "encoder.conv2.bias")
_MOST_AXES = 4

Blocks = NDArray[np.void]
Floats = NDArray[np.float32]


def read(file: MappedFile) -> Contents:
    """A ggml checkpoint.

    Raises:
        CheckpointError: If the file is damaged, or of a type that is not read here.
    """
    cursor = _Cursor(file)
    cursor.numbers(1, "the magic")
    header = dict(zip(_HEADER, cursor.numbers(len(_HEADER), "the dimensions")))
    dims = ModelDimensions(**header)
    check_dimensions(dims, file.name)
    (file_type,) = cursor.numbers(1, "the file type")
    bins, width = cursor.numbers(2, "the mel filters")
    if bins < 0 or width < 0:
        raise CheckpointError(f"{file.name} is damaged: its mel filters are {bins} by {width}")
    cursor.skip(4 * bins * width, "the mel filters")
    vocabulary = _vocabulary(cursor, dims)
    tensors: dict[str, Tensor] = {}
    while cursor.offset < file.size:
        name, tensor = _tensor(cursor, file_type // 1000)
        tensors[name] = tensor
    check_tensors(dims, tensors, file.name)
    return Contents(dims=dims, tensors=tensors, vocabulary=vocabulary, alignment_heads=None)


class _Cursor:
    """Reads the file's fields one after the other."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.offset = 0

    def numbers(self, count: int, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self.bytes(4 * count, what))

    def bytes(self, count: int, what: str) -> bytes:
        raw = self.file.read(self.offset, count, what)
        self.offset += count
        return raw

    def skip(self, count: int, what: str) -> None:
        self.file.read(self.offset + count, 0, what)
        self.offset += count

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> Tensor:
        value = self.file.array(self.offset, dtype, shape, what)
        self.offset += value.nbytes
        return value


def _vocabulary(cursor: _Cursor, dims: ModelDimensions) -> dict[bytes, int]:
    (count,) = cursor.numbers(1, "the vocabulary")
    if not 0 < count <= dims.n_vocab:
        raise CheckpointError(f"{cursor.file.name} is damaged: {count} tokens of {dims.n_vocab}")
    tokens: dict[bytes, int] = {}
    for number in range(count):
        (length,) = cursor.numbers(1, f"token {number}")
        token = cursor.bytes(length, f"token {number}")
        if tokens.setdefault(token, number) != number:
            raise CheckpointError(
                f"{cursor.file.name} is damaged: {token!r} is token {tokens[token]} and {number}"
            )
    # A converter that starts from Hugging Face's files also writes the first special token.
    end = tokens.get(END_OF_TEXT.encode(), count)
    return {token: number for token, number in tokens.items() if number < end}


def _tensor(cursor: _Cursor, layout: int) -> tuple[str, Tensor]:
    where = cursor.file.name
    axes, length, kind = cursor.numbers(3, "a tensor's header")
    if not 0 < axes <= _MOST_AXES or length < 0:
        raise CheckpointError(f"{where} is damaged at byte {cursor.offset - 12}: no tensor begins there")
    shape = cursor.numbers(axes, "a tensor's axes")[::-1]
    raw = cursor.bytes(length, "a tensor's name")
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{where} is damaged: a tensor is called {raw[:40]!r}") from error
    if min(shape) < 1:
        raise CheckpointError(f"{where} is damaged: {name} has shape {shape}")
    if kind in _PLAIN:
        value = cursor.array(np.dtype(_PLAIN[kind]), shape, name)
    elif kind in _QUANTISED:
        value = _dequantised(cursor, _QUANTISED[kind], shape, name, layout)
    else:
        known = "f32, f16, " + ", ".join(form.name for form in _QUANTISED.values())
        raise CheckpointError(f"{where}: {name} has the ggml type {kind}; this package reads {known}")
    return name, value.reshape(-1) if name in _CONVOLUTION_BIASES else value


def _dequantised(
    cursor: _Cursor, form: _Quantisation, shape: tuple[int, ...], name: str, layout: int
) -> Floats:
    if layout != _LAYOUT:
        raise CheckpointError(
            f"{cursor.file.name} has quantised blocks of layout {layout}, not {_LAYOUT}; "
            "make it again with whisper.cpp's current quantize"
        )
    if shape[-1] % BLOCK:
        raise CheckpointError(f"{cursor.file.name} is damaged: {name} {shape} is not in blocks of {BLOCK}")
    blocks = cursor.array(form.block, (math.prod(shape) // BLOCK,), name)
    with np.errstate(all="ignore"):  # a scale that is infinite shows as values that are not finite
        return form.decode(blocks).reshape(shape)


def _scale(blocks: Blocks, field: str) -> Floats:
    """One float16 a block -> (blocks, 1) float32."""
    return blocks[field].astype(np.float32)[:, None]


def _nibbles(blocks: Blocks) -> NDArray[np.uint8]:
    """(blocks, 32): the low halves of sixteen bytes, then the high halves."""
    packed: NDArray[np.uint8] = blocks["low"]
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1)


def _five_bits(blocks: Blocks) -> NDArray[np.uint8]:
    """(blocks, 32): the nibbles, and a fifth bit of each from 32 bits in order."""
    high = np.unpackbits(blocks["high"], axis=1, bitorder="little")
    five: NDArray[np.uint8] = _nibbles(blocks) | (high << np.uint8(4))
    return five


def _q4_0(blocks: Blocks) -> Floats:
    return (_nibbles(blocks).astype(np.float32) - 8) * _scale(blocks, "scale")


def _q4_1(blocks: Blocks) -> Floats:
    return _nibbles(blocks).astype(np.float32) * _scale(blocks, "scale") + _scale(blocks, "least")


def _q5_0(blocks: Blocks) -> Floats:
    return (_five_bits(blocks).astype(np.float32) - 16) * _scale(blocks, "scale")


def _q5_1(blocks: Blocks) -> Floats:
    return _five_bits(blocks).astype(np.float32) * _scale(blocks, "scale") + _scale(blocks, "least")


def _q8_0(blocks: Blocks) -> Floats:
    return blocks["value"].astype(np.float32) * _scale(blocks, "scale")


@dataclass(frozen=True)
class _Quantisation:
    """One of ggml's block formats: how 32 numbers are laid out, and what they stand for."""

    name: str
    fields: tuple[tuple[Any, ...], ...]
    decode: Callable[[Blocks], Floats]

    @property
    def block(self) -> np.dtype[Any]:
        return np.dtype(list(self.fields))


_S, _M = ("scale", "<f2"), ("least", "<f2")
_HIGH, _LOW = ("high", "u1", (4,)), ("low", "u1", (16,))
_PLAIN = {0: "<f4", 1: "<f2"}
_QUANTISED: Mapping[int, _Quantisation] = {
    2: _Quantisation("q4_0", (_S, _LOW), _q4_0),
    3: _Quantisation("q4_1", (_S, _M, _LOW), _q4_1),
    6: _Quantisation("q5_0", (_S, _HIGH, _LOW), _q5_0),
    7: _Quantisation("q5_1", (_S, _M, _HIGH, _LOW), _q5_1),
    8: _Quantisation("q8_0", (_S, ("value", "i1", (BLOCK,))), _q8_0),
}

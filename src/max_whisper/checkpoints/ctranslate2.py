"""CTranslate2's ``model.bin`` as faster-whisper uses it.

Names on the left are CTranslate2's, on the right openai-whisper's; ``i`` is a layer:

    encoder/conv{1,2}/{weight,bias}                    encoder.conv{1,2}.{weight,bias}
    encoder/position_encodings/encodings               encoder.positional_embedding
    encoder/layer_norm/{gamma,beta}                    encoder.ln_post.{weight,bias}
    X/layer_i/self_attention/layer_norm/{gamma,beta}   X.blocks.i.attn_ln.{weight,bias}
    X/layer_i/self_attention/linear_0/{weight,bias}    X.blocks.i.attn.{query,key,value}, stacked
    X/layer_i/self_attention/linear_1/{weight,bias}    X.blocks.i.attn.out.{weight,bias}
    decoder/layer_i/attention/layer_norm/{gamma,beta}  decoder.blocks.i.cross_attn_ln.{weight,bias}
    decoder/layer_i/attention/linear_0/{weight,bias}   decoder.blocks.i.cross_attn.query.{weight,bias}
    decoder/layer_i/attention/linear_1/{weight,bias}   decoder.blocks.i.cross_attn.{key,value}, stacked
    decoder/layer_i/attention/linear_2/{weight,bias}   decoder.blocks.i.cross_attn.out.{weight,bias}
    X/layer_i/ffn/layer_norm/{gamma,beta}              X.blocks.i.mlp_ln.{weight,bias}
    X/layer_i/ffn/linear_0/{weight,bias}               X.blocks.i.mlp.0.{weight,bias}
    X/layer_i/ffn/linear_1/{weight,bias}               X.blocks.i.mlp.2.{weight,bias}
    decoder/embeddings/weight                          decoder.token_embedding.weight
    decoder/position_encodings/encodings               decoder.positional_embedding
    decoder/layer_norm/{gamma,beta}                    decoder.ln.{weight,bias}

The file stores a bias of zeros for the keys, which have none; it is checked and dropped. A weight
quantised to int8 or int16 has a ``weight_scale`` beside it by which its rows are divided.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from max_whisper.checkpoints.canonical import Contents, Tensor, check_tensors
from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.checkpoints.config import alignment_heads, read_json
from max_whisper.checkpoints.files import MappedFile, widen_bfloat16
from max_whisper.checkpoints.vocabulary import directory_vocabulary
from max_whisper.errors import CheckpointError

VERSION = 6
SPECIFICATION = "WhisperSpec"
_BFLOAT16 = 5
_DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2", _BFLOAT16: "<u2"}

_ALIAS = "decoder/projection/weight"
_SETTINGS = {  # what the arithmetic of this package implies; other settings do not change it
    "encoder/pre_norm": 1,
    "decoder/pre_norm": 1,
    "decoder/activation": 3,  # GELU by erf
    "decoder/scale_embeddings": 0,
    "decoder/alibi": 0,
    "decoder/start_from_zero_embedding": 0,
}

_TABLE: Mapping[str, tuple[str, ...]] = {
    "encoder/conv1": ("encoder.conv1",),
    "encoder/conv2": ("encoder.conv2",),
    "encoder/layer_norm": ("encoder.ln_post",),
    "encoder/layer_{i}/self_attention/layer_norm": ("encoder.blocks.{i}.attn_ln",),
    "encoder/layer_{i}/self_attention/linear_0": (
        "encoder.blocks.{i}.attn.query",
        "encoder.blocks.{i}.attn.key",
        "encoder.blocks.{i}.attn.value",
    ),
    "encoder/layer_{i}/self_attention/linear_1": ("encoder.blocks.{i}.attn.out",),
    "encoder/layer_{i}/ffn/layer_norm": ("encoder.blocks.{i}.mlp_ln",),
    "encoder/layer_{i}/ffn/linear_0": ("encoder.blocks.{i}.mlp.0",),
    "encoder/layer_{i}/ffn/linear_1": ("encoder.blocks.{i}.mlp.2",),
    "decoder/embeddings": ("decoder.token_embedding",),
    "decoder/layer_norm": ("decoder.ln",),
    "decoder/layer_{i}/self_attention/layer_norm": ("decoder.blocks.{i}.attn_ln",),
    "decoder/layer_{i}/self_attention/linear_0": (
        "decoder.blocks.{i}.attn.query",
        "decoder.blocks.{i}.attn.key",
        "decoder.blocks.{i}.attn.value",
    ),
    "decoder/layer_{i}/self_attention/linear_1": ("decoder.blocks.{i}.attn.out",),
    "decoder/layer_{i}/attention/layer_norm": ("decoder.blocks.{i}.cross_attn_ln",),
    "decoder/layer_{i}/attention/linear_0": ("decoder.blocks.{i}.cross_attn.query",),
    "decoder/layer_{i}/attention/linear_1": (
        "decoder.blocks.{i}.cross_attn.key",
        "decoder.blocks.{i}.cross_attn.value",
    ),
    "decoder/layer_{i}/attention/linear_2": ("decoder.blocks.{i}.cross_attn.out",),
    "decoder/layer_{i}/ffn/layer_norm": ("decoder.blocks.{i}.mlp_ln",),
    "decoder/layer_{i}/ffn/linear_0": ("decoder.blocks.{i}.mlp.0",),
    "decoder/layer_{i}/ffn/linear_1": ("decoder.blocks.{i}.mlp.2",),
}
_POSITIONS = {
    "encoder/position_encodings/encodings": "encoder.positional_embedding",
    "decoder/position_encodings/encodings": "decoder.positional_embedding",
}
_PARTS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def read(weights: MappedFile, directory: Path) -> Contents:
    """A CTranslate2 model.

    Args:
        weights: ``model.bin``, whole or in parts.
        directory: Where ``config.json`` and the vocabulary stand.

    Raises:
        CheckpointError: If the file is damaged or is not a Whisper model.
    """
    stored = _variables(weights)
    _check_settings(stored, weights.name)
    _check_tied(stored, weights.name)
    plain = {name: _dequantised(stored, name, weights.name) for name in stored if _is_tensor(stored, name)}
    tensors: dict[str, Tensor] = {}
    for name, value in plain.items():
        tensors.update(_renamed(name, value, weights.name))
    dims = _dimensions(stored, tensors, weights.name)
    check_tensors(dims, tensors, weights.name)
    return Contents(
        dims=dims,
        tensors=tensors,
        vocabulary=directory_vocabulary(directory),
        alignment_heads=_alignment_heads(directory / "config.json"),
    )


class _Cursor:
    """Reads the header's fields one after the other."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.offset = 0

    def number(self, kind: str, what: str) -> int:
        size = struct.calcsize(kind)
        (value,) = struct.unpack("<" + kind, self.file.read(self.offset, size, what))
        self.offset += size
        return int(value)

    def string(self, what: str) -> str:
        length = self.number("H", what)
        raw = self.file.read(self.offset, length, what)
        self.offset += length
        try:
            return raw.removesuffix(b"\0").decode("ascii")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.file.name} is damaged: {what} is {raw[:40]!r}") from error


def _variables(file: MappedFile) -> dict[str, Tensor]:
    """Every variable by its CTranslate2 name, aliases as the array that they stand for."""
    cursor = _Cursor(file)
    version = cursor.number("I", "the version")
    if version != VERSION:
        raise CheckpointError(
            f"{file.name} is not a CTranslate2 model of version {VERSION} (it says {version}); "
            "convert it again with a current ct2-transformers-converter"
        )
    specification = cursor.string("the specification")
    if specification != SPECIFICATION:
        raise CheckpointError(f"{file.name} holds a {specification}, not a {SPECIFICATION}")
    cursor.number("I", "the revision")
    variables: dict[str, Tensor] = {}
    for index in range(cursor.number("I", "the number of variables")):
        name = cursor.string(f"the name of variable {index}")
        rank = cursor.number("B", name)
        shape = [cursor.number("I", name) for _ in range(rank)]
        code, count = cursor.number("B", name), cursor.number("I", name)
        variables[name] = _stored(file, cursor.offset, name, shape, code, count)
        cursor.offset += count
    for index in range(cursor.number("I", "the number of aliases")):
        alias, target = cursor.string(f"alias {index}"), cursor.string(f"the target of alias {index}")
        if target not in variables:
            raise CheckpointError(f"{file.name} is damaged: {alias} stands for {target}, which is missing")
        variables[alias] = variables[target]
    if cursor.offset != file.size:
        raise CheckpointError(
            f"{file.name} is damaged: {file.size - cursor.offset} bytes stand after its last variable"
        )
    return variables


def _stored(file: MappedFile, offset: int, name: str, shape: list[int], code: int, count: int) -> Tensor:
    if code not in _DTYPES:
        raise CheckpointError(f"{file.name}: {name} has the unknown type code {code}")
    dtype = np.dtype(_DTYPES[code])
    if math.prod(shape) * dtype.itemsize != count:
        raise CheckpointError(f"{file.name} is damaged: {name} {tuple(shape)} takes {count} bytes")
    value = file.array(offset, dtype, shape, name)
    return widen_bfloat16(value) if code == _BFLOAT16 else value


def _is_tensor(stored: Mapping[str, Tensor], name: str) -> bool:
    return stored[name].ndim > 0 and not name.endswith("_scale") and name != _ALIAS


def _check_settings(stored: Mapping[str, Tensor], where: str) -> None:
    for name, value in _SETTINGS.items():
        if name in stored and stored[name].tolist() != value:
            raise CheckpointError(f"{where}: {name} is {stored[name].tolist()}, but Whisper's is {value}")


def _check_tied(stored: Mapping[str, Tensor], where: str) -> None:
    head, embedding = stored.get(_ALIAS), stored.get("decoder/embeddings/weight")
    if head is None or embedding is None or head is embedding:
        return
    if not np.array_equal(head, embedding):
        raise CheckpointError(f"{where}: {_ALIAS} is not the token embedding; Whisper's output head is")


def _dequantised(stored: Mapping[str, Tensor], name: str, where: str) -> Tensor:
    """A float tensor as it is; an int8 or int16 one divided by its scale (one a row, or one)."""
    value = stored[name]
    if value.dtype.kind != "i":
        return value
    scale = stored.get(f"{name}_scale")
    if scale is None:
        raise CheckpointError(f"{where}: {name} is {value.dtype}, and its scale {name}_scale is missing")
    if scale.dtype.kind != "f" or scale.shape not in ((), (value.shape[0],)):
        raise CheckpointError(f"{where}: {name}_scale has shape {scale.shape}, not {(value.shape[0],)}")
    rows = scale.astype(np.float32).reshape((-1,) + (1,) * (value.ndim - 1))
    if not (np.isfinite(rows) & (rows > 0)).all():
        raise CheckpointError(f"{where}: {name}_scale is damaged: a scale is positive and finite")
    with np.errstate(over="ignore"):  # what overflows shows as values that are not finite
        return value.astype(np.float32) / rows


def _renamed(name: str, value: Tensor, where: str) -> Iterator[tuple[str, Tensor]]:
    """The canonical tensors in one stored tensor: none for a name that Whisper does not have."""
    if name in _POSITIONS:
        yield _POSITIONS[name], value
        return
    scope, _, part = name.rpartition("/")
    layer = re.search(r"(?<=/layer_)\d+", scope)
    pattern = scope if layer is None else f"{scope[: layer.start()]}{{i}}{scope[layer.end() :]}"
    targets = _TABLE.get(pattern)
    if targets is None or part not in _PARTS:
        yield name, value  # the check of names and shapes reports it
        return
    if value.shape[0] % len(targets):
        raise CheckpointError(f"{where}: {name} {value.shape} does not stack {len(targets)} projections")
    for target, piece in zip(targets, np.split(value, len(targets))):
        canonical = f"{target}.{_PARTS[part]}".format(i=layer and int(layer.group()))
        if not canonical.endswith(".key.bias"):
            yield canonical, piece
        elif piece.any():
            raise CheckpointError(f"{where}: {name} has a bias for the keys; Whisper's keys have none")


def _dimensions(stored: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> ModelDimensions:
    """Head counts from the settings, everything else from the shapes."""

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != rank:
            raise CheckpointError(f"{where} is not a Whisper checkpoint: it lacks {name} with {rank} axes")
        return tensors[name].shape

    def heads(name: str) -> int:
        if name not in stored or stored[name].ndim:
            raise CheckpointError(f"{where} does not say {name}; convert it again with a current converter")
        return int(stored[name].tolist())

    def layers(side: str) -> int:
        found = [re.match(rf"{side}\.blocks\.(\d+)\.", name) for name in tensors]
        return 1 + max((int(match.group(1)) for match in found if match), default=-1)

    audio_state, n_mels, _ = shape("encoder.conv1.weight", 3)
    n_vocab, text_state = shape("decoder.token_embedding.weight", 2)
    return ModelDimensions(
        n_mels=n_mels,
        n_audio_ctx=shape("encoder.positional_embedding", 2)[0],
        n_audio_state=audio_state,
        n_audio_head=heads("encoder/num_heads"),
        n_audio_layer=layers("encoder"),
        n_vocab=n_vocab,
        n_text_ctx=shape("decoder.positional_embedding", 2)[0],
        n_text_state=text_state,
        n_text_head=heads("decoder/num_heads"),
        n_text_layer=layers("decoder"),
    )


def _alignment_heads(path: Path) -> tuple[tuple[int, int], ...] | None:
    return alignment_heads(read_json(path), path) if path.is_file() else None

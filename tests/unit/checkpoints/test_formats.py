"""One model, written in every format, is the same model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint, expected_shapes, load_checkpoint
from max_whisper.errors import CheckpointError, MaxWhisperError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS, HEADS, VOCABULARY, Arrays

Writer = Callable[[Path, Any, Arrays], None]

WRITERS: dict[str, Writer] = {
    "openai": files.write_openai,
    "huggingface": files.write_huggingface,
    "shards": lambda path, dims, tensors: files.write_huggingface(path, dims, tensors, shards=3),
    "ctranslate2": files.write_ctranslate2,
    "ggml-f16": files.write_ggml,
    "ggml-f32": lambda path, dims, tensors: files.write_ggml(path, dims, tensors, "f32"),
}


@pytest.fixture
def tensors() -> Arrays:
    return files.random_tensors()


def assert_equal(checkpoint: Checkpoint, expected: Arrays) -> None:
    assert set(checkpoint.tensors) == set(expected)
    for name, value in expected.items():
        found = checkpoint.tensors[name]
        assert found.dtype in (np.float16, np.float32), name
        assert found.shape == value.shape, name
        np.testing.assert_array_equal(found, value, err_msg=name)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_every_format_gives_the_same_model(form: str, dtype: Any, tmp_path: Path) -> None:
    expected = files.random_tensors(dtype=dtype)
    WRITERS[form](tmp_path / "model", DIMS, expected)
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.dims == DIMS
    assert_equal(checkpoint, expected)
    assert checkpoint.source == str(tmp_path / "model")
    if form == "openai":
        assert checkpoint.vocabulary is None
    else:
        assert checkpoint.vocabulary is not None
        assert list(checkpoint.vocabulary.items()) == list(VOCABULARY.items())
    carries_heads = form in ("huggingface", "shards", "ctranslate2")
    assert checkpoint.alignment_heads == (HEADS if carries_heads else None)


@pytest.mark.parametrize("form", ["openai", "huggingface", "shards"])
def test_bfloat16_is_widened_exactly(form: str, tmp_path: Path, tensors: Arrays) -> None:
    if form == "openai":
        files.write_openai(tmp_path / "model", DIMS, tensors, bfloat16=True)
    else:
        count = 2 if form == "shards" else 1
        files.write_huggingface(tmp_path / "model", DIMS, tensors, shards=count, bfloat16=True)
    checkpoint = load_checkpoint(tmp_path / "model")
    assert {value.dtype for value in checkpoint.tensors.values()} == {np.dtype(np.float32)}
    assert_equal(checkpoint, files.through_bfloat16(tensors))


@pytest.mark.parametrize("form", WRITERS)
def test_a_missing_tensor_is_named(form: str, tmp_path: Path, tensors: Arrays) -> None:
    gone = "decoder.blocks.1.mlp_ln.bias"
    if form == "ctranslate2":

        def drop(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {n: v for n, v in variables.items() if n != "decoder/layer_1/ffn/layer_norm/beta"}

        files.write_ctranslate2(tmp_path / "model", DIMS, tensors, change=drop)
    else:
        del tensors[gone]
        WRITERS[form](tmp_path / "model", DIMS, tensors)
    with pytest.raises(CheckpointError, match=rf"missing {gone} \(32,\)"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("form", ["openai", "huggingface", "shards", "ggml-f16"])
def test_an_unexpected_tensor_is_named(form: str, tmp_path: Path, tensors: Arrays) -> None:
    tensors["decoder.adapter.weight"] = np.ones((2, 3), np.float16)
    WRITERS[form](tmp_path / "model", DIMS, tensors)
    with pytest.raises(CheckpointError, match=r"unexpected (model\.)?decoder\.adapter\.weight \(2, 3\)"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("form", ["openai", "huggingface", "shards", "ggml-f16"])
def test_a_wrong_shape_is_named(form: str, tmp_path: Path, tensors: Arrays) -> None:
    tensors["encoder.blocks.0.mlp.0.bias"] = np.ones(127, np.float16)
    WRITERS[form](tmp_path / "model", DIMS, tensors)
    with pytest.raises(
        CheckpointError, match=r"encoder\.blocks\.0\.mlp\.0\.bias has shape \(127,\), not \(128,\)"
    ):
        load_checkpoint(tmp_path / "model")


def test_every_fault_is_named_at_once(tmp_path: Path, tensors: Arrays) -> None:
    del tensors["encoder.conv1.bias"], tensors["decoder.ln.weight"]
    tensors["extra"] = np.ones(1, np.float16)
    files.write_openai(tmp_path / "model.pt", DIMS, tensors)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "model.pt")
    for part in ("missing encoder.conv1.bias", "missing decoder.ln.weight", "unexpected extra", "model.pt"):
        assert part in str(caught.value)


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(
    form: str, value: float, tmp_path: Path, tensors: Arrays
) -> None:
    tensors["decoder.blocks.0.cross_attn.value.weight"][3, 5] = value
    WRITERS[form](tmp_path / "model", DIMS, tensors)
    with pytest.raises(
        CheckpointError, match=r"not finite, in decoder\.blocks\.0\.cross_attn\.value\.weight"
    ):
        load_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("form", ["openai", "huggingface", "ctranslate2", "ggml-f16"])
def test_a_truncated_file_is_refused(form: str, tmp_path: Path, tensors: Arrays) -> None:
    WRITERS[form](tmp_path / "model", DIMS, tensors)
    whole = tmp_path / "model"
    name = {"huggingface": "model.safetensors", "ctranslate2": "model.bin"}.get(form)
    content = (whole / name if name else whole).read_bytes()
    for kept in (1, 7, 40, len(content) // 2, len(content) - 1):
        if whole.is_dir():
            copy = tmp_path / f"{kept}"
            shutil.copytree(whole, copy)
            (copy / str(name)).write_bytes(content[:kept])
        else:
            copy = tmp_path / f"{kept}.bin"
            copy.write_bytes(content[:kept])
        with pytest.raises(CheckpointError, match=str(copy)):
            load_checkpoint(copy)


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVEfmt ", b"not a model at all, just text"])
def test_other_files_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"speech\.wav") as caught:
        load_checkpoint(path)
    assert isinstance(caught.value, MaxWhisperError)
    if not content:
        assert "empty" in str(caught.value)


def test_a_directory_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors, .* nor model\.bin"):
        load_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="save the model again as safetensors"):
        load_checkpoint(tmp_path)


def test_dimensions_that_contradict_each_other_are_refused(tmp_path: Path, tensors: Arrays) -> None:
    for change in ({"n_audio_head": 5}, {"n_text_layer": 0}, {"n_text_layer": 1 << 30}, {"n_text_state": 64}):
        files.write_openai(tmp_path / "model.pt", replace(DIMS, **change), tensors)
        with pytest.raises(CheckpointError, match=next(iter(change))):
            load_checkpoint(tmp_path / "model.pt")


def test_expected_shapes_of_one_block_each() -> None:
    shapes = expected_shapes(replace(DIMS, n_text_layer=1))
    assert len(shapes) == 5 + 15 + 2 + 2 + 24 + 2
    assert shapes["encoder.conv1.weight"] == (32, 4, 3)
    assert shapes["decoder.token_embedding.weight"] == (40, 32)
    assert shapes["decoder.blocks.0.mlp.2.weight"] == (32, 128)
    assert not [name for name in shapes if name.endswith("key.bias")]


def test_arrays_are_views_that_cannot_be_written(tmp_path: Path, tensors: Arrays) -> None:
    for form in ("openai", "huggingface", "ctranslate2", "ggml-f16"):
        WRITERS[form](tmp_path / form, DIMS, tensors)
        value = load_checkpoint(tmp_path / form).tensors["decoder.token_embedding.weight"]
        assert not value.flags.writeable
        assert not value.flags.owndata

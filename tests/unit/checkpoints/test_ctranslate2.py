"""CTranslate2 models beyond the plain case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper.checkpoints import ctranslate2, load, load_checkpoint
from max_whisper.checkpoints.files import MappedFile
from max_whisper.errors import CheckpointError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS, TIED, Arrays


@pytest.fixture
def tensors() -> Arrays:
    return files.random_tensors()


def test_what_files_are_known_by_is_what_they_must_say() -> None:
    assert load._CTRANSLATE2.decode() == ctranslate2.SPECIFICATION


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_file_in_parts_is_read_as_one(parts: int, tmp_path: Path, tensors: Arrays) -> None:
    files.write_ctranslate2(tmp_path, DIMS, tensors)
    content = (tmp_path / "model.bin").read_bytes()
    size = len(content) // parts + 1
    paths = []
    for number in range(parts):
        paths.append(tmp_path / f"model.bin.part{number}")
        paths[-1].write_bytes(content[number * size : (number + 1) * size])
    contents = ctranslate2.read(MappedFile(paths), tmp_path)
    assert set(contents.tensors) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(contents.tensors[name], value)
    # What lies across a cut is copied, and nothing else.
    copied = sum(_base(value) is not None for value in contents.tensors.values())
    assert copied <= 3 * (parts - 1)


def _base(value: Any) -> bytes | None:
    """The bytes object that an array is a view of, None for a memory map."""
    while isinstance(value, np.ndarray):
        value = value.base
    return value if isinstance(value, bytes) else None


def test_int8_weights_are_divided_by_their_scales(tmp_path: Path, tensors: Arrays) -> None:
    files.write_ctranslate2(
        tmp_path,
        DIMS,
        tensors,
        change=files.quantised_int8,
        aliases=TIED | {"decoder/projection/weight_scale": "decoder/embeddings/weight_scale"},
    )
    found = load_checkpoint(tmp_path).tensors
    for name in ("decoder.token_embedding.weight", "encoder.blocks.0.attn.key.weight"):
        value = tensors[name].astype(np.float32)
        for row, exact in zip(found[name], value):
            scale = np.float32(127 / np.abs(exact).max())
            codes = [round(float(number * scale)) for number in exact]
            assert row.tolist() == [float(np.float32(code) / scale) for code in codes]
        assert np.abs(found[name] - value).max() <= np.abs(value).max() / 254 * 1.001
    np.testing.assert_array_equal(found["encoder.conv1.weight"], tensors["encoder.conv1.weight"])


def test_int16_weights_have_one_scale(tmp_path: Path, tensors: Arrays) -> None:
    name = "encoder/layer_0/ffn/linear_0/weight"
    weight = tensors["encoder.blocks.0.mlp.0.weight"].astype(np.float32)
    scale = np.float32(1024 / np.abs(weight).max())

    def quantise(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return variables | {name: np.rint(weight * scale).astype(np.int16), f"{name}_scale": np.array(scale)}

    files.write_ctranslate2(tmp_path, DIMS, tensors, change=quantise)
    found = load_checkpoint(tmp_path).tensors["encoder.blocks.0.mlp.0.weight"]
    np.testing.assert_array_equal(found, np.rint(weight * scale) / scale)


def with_variables(**changes: Any) -> Any:
    """A change of variables; ``__`` stands for a slash, None removes one."""

    def change(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        renamed = {name.replace("__", "/"): value for name, value in changes.items()}
        return {name: value for name, value in (variables | renamed).items() if value is not None}

    return change


KEY_BIAS = np.concatenate([np.zeros(32), np.ones(1), np.zeros(63)]).astype(np.float16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder__layer_0__self_attention__linear_0__bias": KEY_BIAS}, "has a bias for the keys"),
        ({"encoder__layer_0__self_attention__linear_0__bias": np.ones(95, np.float16)}, "does not stack 3"),
        ({"encoder__num_heads": None}, "does not say encoder/num_heads"),
        ({"encoder__conv1__weight": None}, r"lacks encoder\.conv1\.weight with 3 axes"),
        ({"decoder__embeddings__weight": np.ones(4, np.int8)}, "its scale .* is missing"),
        ({"decoder__activation": np.array(0, np.int8)}, "decoder/activation is 0, but Whisper's is 3"),
        ({"encoder__pre_norm": np.array(0, np.int8)}, "encoder/pre_norm is 0, but Whisper's is 1"),
        ({"decoder__layer_0__ffn__linear_9__weight": np.ones((2, 2), np.float16)}, "unexpected .*linear_9"),
        ({"decoder__projection__weight": np.ones((40, 32), np.float16)}, "is not the token embedding"),
    ],
)
def test_what_is_not_whisper_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path, tensors: Arrays
) -> None:
    aliases = (
        {} if "decoder__embeddings__weight" in change or "decoder__projection__weight" in change else TIED
    )
    files.write_ctranslate2(tmp_path, DIMS, tensors, change=with_variables(**change), aliases=aliases)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_a_scale_of_the_wrong_shape_is_refused(tmp_path: Path, tensors: Arrays) -> None:
    def quantise(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        quantised = files.quantised_int8(variables)
        return quantised | {"decoder/embeddings/weight_scale": np.ones(3, np.float32)}

    files.write_ctranslate2(tmp_path, DIMS, tensors, change=quantise)
    with pytest.raises(CheckpointError, match=r"weight_scale has shape \(3,\), not \(40,\)"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-45])
def test_a_scale_that_is_no_number_is_refused(scale: float, tmp_path: Path, tensors: Arrays) -> None:
    def quantise(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        quantised = files.quantised_int8(variables)
        scales = quantised["decoder/embeddings/weight_scale"]
        scales[7] = scale
        return quantised

    files.write_ctranslate2(tmp_path, DIMS, tensors, change=quantise)
    with pytest.raises(
        CheckpointError,
        match=r"decoder/embeddings/weight_scale is damaged|not finite, in decoder\.token_embedding",
    ):
        load_checkpoint(tmp_path)


def test_an_equal_head_that_is_stored_twice_is_read(tmp_path: Path, tensors: Arrays) -> None:
    head = tensors["decoder.token_embedding.weight"].copy()
    files.write_ctranslate2(
        tmp_path, DIMS, tensors, change=with_variables(decoder__projection__weight=head), aliases={}
    )
    assert load_checkpoint(tmp_path).dims == DIMS


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"version": 5}, "not a CTranslate2 model of version 6 .it says 5.; convert it again"),
        ({"specification": "TransformerSpec"}, "begins with"),
        ({"specification": "WhisperSpecOfAnother"}, "holds a WhisperSpecOfAnother, not a WhisperSpec"),
        ({"aliases": {"decoder/projection/weight": "nowhere"}}, "stands for nowhere, which is missing"),
    ],
)
def test_other_models_are_refused(
    keywords: dict[str, Any], message: str, tmp_path: Path, tensors: Arrays
) -> None:
    files.write_ctranslate2(tmp_path, DIMS, tensors)
    variables = files.ctranslate2_variables(DIMS, tensors)
    content = files.ctranslate2_bytes(variables, **({"aliases": TIED} | keywords))
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_bytes_after_the_end_are_refused(tmp_path: Path, tensors: Arrays) -> None:
    files.write_ctranslate2(tmp_path, DIMS, tensors)
    path = tmp_path / "model.bin"
    path.write_bytes(path.read_bytes() + b"\0\0\0")
    with pytest.raises(CheckpointError, match="3 bytes stand after its last variable"):
        load_checkpoint(tmp_path)


def test_a_size_that_contradicts_the_shape_is_refused(tmp_path: Path, tensors: Arrays) -> None:
    files.write_ctranslate2(tmp_path, DIMS, tensors)
    path = tmp_path / "model.bin"
    content = path.read_bytes()
    at = content.index(b"encoder/conv1/bias\0") + len(b"encoder/conv1/bias\0") + 1
    path.write_bytes(content[:at] + b"\x21" + content[at + 1 :])  # 33 numbers, it says, in 64 bytes
    with pytest.raises(CheckpointError, match=r"encoder/conv1/bias \(33,\) takes 64 bytes"):
        load_checkpoint(tmp_path)


def test_vocabulary_and_configuration_may_be_absent(tmp_path: Path, tensors: Arrays) -> None:
    files.write_ctranslate2(tmp_path, DIMS, tensors)
    (tmp_path / "config.json").unlink()
    (tmp_path / "vocabulary.txt").unlink()
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.vocabulary is None
    assert checkpoint.alignment_heads is None

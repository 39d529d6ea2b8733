"""whisper.cpp's files: the block formats exactly, the rest by what can be wrong."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from max_whisper.checkpoints import load_checkpoint
from max_whisper.errors import CheckpointError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS, GGML_TYPES, TOKENS, VOCABULARY

QUANTISED = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]
NAME = "decoder.blocks.1.mlp.0.weight"


def reference_block(kind: str, block: bytes) -> list[np.float32]:
    """ggml's definition of a block's 32 numbers, one at a time."""
    scale = np.float32(np.frombuffer(block, np.float16, 1)[0])
    if kind == "q8_0":
        return [np.float32(code) * scale for code in struct.unpack("<32b", block[2:])]
    least = np.float32(np.frombuffer(block, np.float16, 1, 2)[0]) if kind.endswith("_1") else None
    body = block[4:] if least is not None else block[2:]
    high = int.from_bytes(body[:4], "little") if kind.startswith("q5") else 0
    nibbles = body[-16:]
    numbers = []
    for j in range(32):
        code = nibbles[j] & 15 if j < 16 else nibbles[j - 16] >> 4
        code |= ((high >> j) & 1) << 4
        if least is None:
            numbers.append(np.float32(code - (16 if kind.startswith("q5") else 8)) * scale)
        else:
            numbers.append(np.float32(code) * scale + least)
    return numbers


def random_blocks(kind: str, count: int) -> bytes:
    """Blocks of random bits with finite scales."""
    rng = np.random.default_rng(7)
    sizes = {"q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24, "q8_0": 34}
    blocks = rng.integers(0, 256, (count, sizes[kind]), dtype=np.uint8)
    scales = 2 if kind.endswith("_1") else 1
    blocks[:, : 2 * scales] = rng.standard_normal((count, scales)).astype(np.float16).view(np.uint8)
    return blocks.tobytes()


@pytest.mark.parametrize("kind", QUANTISED)
def test_blocks_are_dequantised_bit_for_bit(kind: str, tmp_path: Path) -> None:
    tensors = files.random_tensors()
    shape = tensors.pop(NAME).shape
    blocks = random_blocks(kind, shape[0] * shape[1] // 32)
    files.write_ggml(tmp_path / "model.bin", DIMS, tensors, kind)
    record = struct.pack("<5i", 2, len(NAME), GGML_TYPES[kind], *shape[::-1]) + NAME.encode() + blocks
    with (tmp_path / "model.bin").open("ab") as file:
        file.write(record)
    found = load_checkpoint(tmp_path / "model.bin").tensors[NAME]
    size = len(blocks) // (shape[0] * shape[1] // 32)
    expected = [reference_block(kind, blocks[at : at + size]) for at in range(0, len(blocks), size)]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(shape))


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_quantised_model_is_near_the_original(kind: str, tmp_path: Path) -> None:
    tensors = files.random_tensors()
    files.write_ggml(tmp_path / "model.bin", DIMS, tensors, kind)
    checkpoint = load_checkpoint(tmp_path / "model.bin")
    assert set(checkpoint.tensors) == set(tensors)
    levels = {"q4": 14, "q5": 30, "q8": 254}[kind[:2]]
    for name, value in tensors.items():
        found = checkpoint.tensors[name].astype(np.float32)
        if value.ndim != 2 or name.endswith("positional_embedding"):
            np.testing.assert_array_equal(found, value)
            continue
        rows = value.astype(np.float32).reshape(-1, 32)
        spread = 2 * np.abs(rows).max(axis=1, keepdims=True)
        error = np.abs(found.reshape(-1, 32) - rows)
        assert error.max() > 0
        assert (error <= 0.52 * spread / levels).all(), name


def test_a_special_token_that_a_converter_wrote_along_is_left_out(tmp_path: Path) -> None:
    tensors = files.random_tensors()
    records = b"".join(files.ggml_tensor(name, value, "f16") for name, value in tensors.items())
    tokens = [*TOKENS, b"<|endoftext|>", b"<|startoftranscript|>"]
    (tmp_path / "model.bin").write_bytes(files.ggml_head(DIMS, "f16", tokens) + records)
    assert load_checkpoint(tmp_path / "model.bin").vocabulary == VOCABULARY


def record(name: str = "x", kind: int = 0, axes: tuple[int, ...] = (1,), count: int | None = None) -> bytes:
    raw = name.encode("latin-1")
    return (
        struct.pack(f"<{3 + len(axes)}i", len(axes) if count is None else count, len(raw), kind, *axes) + raw
    )


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (record(count=9), "no tensor begins there"),
        (record(count=0), "no tensor begins there"),
        (struct.pack("<3i", 1, -1, 0) + bytes(8), "no tensor begins there"),
        (record(axes=(0,)), r"x has shape \(0,\)"),
        (record(axes=(1 << 30, 1 << 30)), "x needs bytes"),
        (record(kind=14), "x has the ggml type 14; this package reads f32, f16, q4_0, .*q8_0"),
        (record(kind=2, axes=(33, 2)), r"x \(2, 33\) is not in blocks of 32"),
        (record(name="\xff"), "a tensor is called"),
        (b"\0", "needs bytes"),
    ],
)
def test_damaged_records_are_refused(tail: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(files.ggml_head(DIMS, "q4_0") + tail)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model.bin")


def test_blocks_of_an_older_layout_are_refused(tmp_path: Path) -> None:
    head = bytearray(files.ggml_head(DIMS, "q5_0"))
    struct.pack_into("<i", head, 44, 1000 + GGML_TYPES["q5_0"])
    (tmp_path / "model.bin").write_bytes(bytes(head) + record(kind=6, axes=(32,)) + bytes(22))
    with pytest.raises(CheckpointError, match="layout 1, not 2; make it again"):
        load_checkpoint(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [((b"a", b"b", b"a"), "b'a' is token 0 and 2"), ((), "0 tokens"), ((b"a",) * 41, "41 tokens of 40")],
)
def test_damaged_vocabularies_are_refused(tokens: tuple[bytes, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(files.ggml_head(DIMS, "f16", tokens))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model.bin")


def test_a_file_that_is_cut_between_tensors_names_what_is_gone(tmp_path: Path) -> None:
    tensors = files.random_tensors()
    last = list(tensors)[-1]
    del tensors[last]
    files.write_ggml(tmp_path / "model.bin", DIMS, tensors)
    with pytest.raises(CheckpointError, match=f"missing {last}"):
        load_checkpoint(tmp_path / "model.bin")

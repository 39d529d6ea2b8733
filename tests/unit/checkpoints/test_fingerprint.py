"""The hash is remembered, and never for a file that has changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from max_whisper.checkpoints import load, load_checkpoint
from max_whisper.errors import CheckpointError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every hash that is computed."""
    computed: list[int] = []
    real = load.hash_files

    def counting(*arguments: object) -> str:
        computed.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(load, "hash_files", counting)
    return computed


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' files count as long written."""
    monkeypatch.setattr("max_whisper.checkpoints.fingerprint._SETTLED", 0)


def write(path: Path, seed: int = 0) -> str:
    files.write_openai(path, DIMS, files.random_tensors(seed=seed))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[int]) -> None:
    expected = write(tmp_path / "model.pt")
    assert [load_checkpoint(tmp_path / "model.pt").fingerprint for _ in range(3)] == [expected] * 3
    assert len(hashed) == 1


def test_a_file_changed_in_place_is_hashed_again(tmp_path: Path, hashed: list[int]) -> None:
    path = tmp_path / "model.pt"
    write(path)
    first = load_checkpoint(path).fingerprint
    stat = path.stat()
    expected = write(path, seed=1)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a restored time does not hide it
    assert path.stat().st_size == stat.st_size
    assert load_checkpoint(path).fingerprint == expected != first
    assert len(hashed) == 2


def test_a_file_that_another_replaced_is_hashed_again(tmp_path: Path, hashed: list[int]) -> None:
    path = tmp_path / "model.pt"
    write(path)
    load_checkpoint(path)
    stat = path.stat()
    expected = write(tmp_path / "new.pt", seed=1)
    os.utime(tmp_path / "new.pt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tmp_path / "new.pt").replace(path)
    assert load_checkpoint(path).fingerprint == expected


def test_nothing_is_remembered_of_a_file_just_written(
    tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.checkpoints.fingerprint._SETTLED", 3_600_000_000_000)
    write(tmp_path / "model.pt")
    for _ in range(2):
        load_checkpoint(tmp_path / "model.pt")
    assert len(hashed) == 2


def test_a_checkpoint_that_is_not_sound_is_not_remembered(tmp_path: Path) -> None:
    tensors = files.random_tensors()
    tensors["decoder.ln.bias"][0] = np.nan
    files.write_openai(tmp_path / "model.pt", DIMS, tensors)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"not finite, in decoder\.ln\.bias"):
            load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sha256": 1}', b'{"key": null, "sha256": "x"}'])
def test_a_damaged_record_is_ignored(content: bytes, tmp_path: Path, isolated: Path) -> None:
    expected = write(tmp_path / "model.pt")
    load_checkpoint(tmp_path / "model.pt")
    (record,) = (isolated / "hashes").iterdir()
    record.write_bytes(content)
    assert load_checkpoint(tmp_path / "model.pt").fingerprint == expected


def test_a_cache_that_cannot_be_written_costs_time_alone(
    tmp_path: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAX_WHISPER_CACHE", str(tmp_path / "file"))
    expected = write(tmp_path / "model.pt")
    assert [load_checkpoint(tmp_path / "model.pt").fingerprint for _ in range(2)] == [expected] * 2
    assert len(hashed) == 2


def test_every_shard_counts(tmp_path: Path, hashed: list[int]) -> None:
    files.write_huggingface(tmp_path, DIMS, files.random_tensors(), shards=3)
    first = load_checkpoint(tmp_path).fingerprint
    time.sleep(0.01)
    files.write_huggingface(tmp_path, DIMS, files.random_tensors(seed=1), shards=3)
    assert load_checkpoint(tmp_path).fingerprint != first
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    joined = hashlib.sha256(b"".join(path.read_bytes() for path in shards)).hexdigest()
    assert load_checkpoint(tmp_path).fingerprint == joined

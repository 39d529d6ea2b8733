"""Packed weights and compiled graphs on disk: whatever was touched is made again."""

from __future__ import annotations

import hashlib
import json
import threading

import numpy as np
import pytest

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.errors import ArtifactError
from max_whisper.graph import artifacts
from max_whisper.graph.artifacts import ModuleSpec
from max_whisper.graph.store import packed_weights

DIMS = ModelDimensions(80, 10, 64, 1, 1, 100, 16, 64, 1, 1)
SPEC = ModuleSpec("whisper", DIMS, "float32")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_WHISPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that writes down its calls; an artifact's content is its own hash's input."""
    calls = []

    def run(spec, path, family=None):
        calls.append(spec)
        path.write_bytes(b"machine code of " + spec.kind.encode())

    monkeypatch.setattr(artifacts, "_run_compiler", run)
    monkeypatch.setattr(artifacts, "read", lambda source: source.read())
    return calls


def arrays():
    return {"a": np.arange(7, dtype=np.float32), "b": np.arange(6, dtype=np.int32).reshape(2, 3)}


def test_weights_are_packed_once_and_mapped_after(cache):
    packed = []

    def pack():
        packed.append(1)
        return arrays()

    for _ in range(3):
        found = packed_weights("f" * 64, "part", pack)
        assert found["a"].tolist() == arrays()["a"].tolist() and found["b"].tolist() == arrays()["b"].tolist()
        assert found["b"].dtype == np.int32
    assert len(packed) == 1


@pytest.mark.parametrize("damage", ["truncate", "rewrite", "record", "gone"])
def test_touched_weights_are_packed_again(cache, damage):
    packed_weights("f" * 64, "part", arrays)
    (file,) = cache.glob("weights/*.bin")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:10])
    elif damage == "rewrite":
        file.write_bytes(bytes(len(file.read_bytes())))
    elif damage == "record":
        file.with_suffix(".json").write_text("{")
    else:
        file.unlink()
    found = packed_weights("f" * 64, "part", arrays)
    assert found["a"].tolist() == arrays()["a"].tolist()


def test_weights_work_from_a_cache_that_cannot_be_written(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAX_WHISPER_CACHE", str(tmp_path / "file"))
    assert packed_weights("f" * 64, "part", arrays)["a"].tolist() == arrays()["a"].tolist()


def test_a_graph_is_compiled_once(compiler):
    assert artifacts.load_modules([SPEC]) == [b"machine code of whisper"]
    assert artifacts.load_modules([SPEC]) == [b"machine code of whisper"]
    assert len(compiler) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "record", "foreign", "no record"])
def test_a_damaged_or_foreign_artifact_is_compiled_again(compiler, damage):
    artifacts.load_modules([SPEC])
    path, record = SPEC.path, SPEC.path.with_suffix(".json")
    if damage == "flip":
        path.write_bytes(b"M" + path.read_bytes()[1:])
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "record":
        record.write_text("not json")
    elif damage == "foreign":
        content = b"code of another processor"
        path.write_bytes(content)
        record.write_text(json.dumps({"key": "other", "sha256": hashlib.sha256(content).hexdigest()}))
    else:
        record.unlink()
    assert artifacts.load_modules([SPEC]) == [b"machine code of whisper"]
    assert len(compiler) == 2


def test_graphs_of_other_models_precisions_and_processors_have_other_keys(monkeypatch):
    wider = ModuleSpec("whisper", ModelDimensions(80, 10, 128, 1, 1, 100, 16, 64, 1, 1), "float32")
    keys = {
        SPEC.key,
        wider.key,
        ModuleSpec("whisper", DIMS, "int8").key,
        ModuleSpec("probe", DIMS, "float32").key,
    }
    monkeypatch.setattr(artifacts, "processor", lambda: "Linux riscv64")
    keys.add(ModuleSpec("whisper", DIMS, "float32").key)
    assert len(keys) == 5


def test_those_who_start_at_once_wait_for_one_compiler(compiler):
    threads = [threading.Thread(target=artifacts.load_modules, args=([SPEC],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiler) == 1


def test_progress_counts_the_modules_that_are_compiled(compiler):
    told = []
    specs = [SPEC, ModuleSpec("probe", DIMS, "float32")]
    artifacts.load_modules([SPEC])
    artifacts.load_modules(specs, lambda *progress: told.append(progress[1:]))
    assert told == [(0, 1), (1, 1)]


def test_a_compiler_that_fails_says_why():
    with pytest.raises(ArtifactError, match=r"compiling the nonsense graphs failed[\s\S]*nonsense"):
        artifacts.load_modules([ModuleSpec("nonsense", DIMS, "float32")])


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch, compiler):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAX_WHISPER_CACHE", str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match="MAX_WHISPER_CACHE"):
        artifacts.load_modules([SPEC])

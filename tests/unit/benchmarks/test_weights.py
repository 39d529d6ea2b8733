"""What the benchmark writes for other engines is what our own readers read from it."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import environments, weights
from benchmarks.environments import BenchmarkError, Environments

from max_whisper.checkpoints import load_checkpoint
from support.checkpoint_files import DIMS, TOKENS, random_tensors, write_ctranslate2

TENSORS = random_tensors()


@pytest.fixture
def checkpoint(tmp_path):
    write_ctranslate2(tmp_path / "given", DIMS, TENSORS)
    return load_checkpoint(tmp_path / "given")


def test_ggml_keeps_float16_and_the_vocabulary(tmp_path, checkpoint) -> None:
    weights.write_ggml(tmp_path / "f16.bin", checkpoint, "f16")
    read = load_checkpoint(tmp_path / "f16.bin")
    assert read.dims == DIMS
    assert list(read.vocabulary) == list(TOKENS)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(read.tensors[name], value, name)


def test_ggml_q8_0_is_near_by_half_a_step(tmp_path, checkpoint) -> None:
    weights.write_ggml(tmp_path / "q8.bin", checkpoint, "q8_0")
    read = load_checkpoint(tmp_path / "q8.bin")
    value = TENSORS["decoder.blocks.0.mlp.0.weight"].astype(np.float32).reshape(-1, 32)
    found = read.tensors["decoder.blocks.0.mlp.0.weight"].reshape(-1, 32)
    steps = np.abs(value).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - value) <= 0.6 * steps).all()
    assert not np.array_equal(found, value)
    np.testing.assert_array_equal(read.tensors["encoder.conv1.weight"], TENSORS["encoder.conv1.weight"])


def test_a_block_of_zeros_has_no_scale() -> None:
    assert weights.q8_0(np.zeros((1, 32), np.float16)) == bytes(34)


def test_a_folder_of_another_format_is_refused(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match=r"no CTranslate2 folder"):
        weights.Weights(f"x={tmp_path / 'empty'}", tmp_path / "cache", Environments(tmp_path, {}))


def test_a_missing_environment_names_the_remedy(tmp_path) -> None:
    found = Environments(tmp_path, {"openvino": tmp_path / "python"})
    assert found.python("openvino") == tmp_path / "python"
    with pytest.raises(BenchmarkError, match="--setup"):
        found.python("openai")
    with pytest.raises(BenchmarkError, match="no environment 'torch'"):
        Environments(tmp_path, {"torch": tmp_path})
    assert str(found.python("max-whisper")) == environments.sys.executable

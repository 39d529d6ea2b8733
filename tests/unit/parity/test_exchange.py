from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint, load_checkpoint
from max_whisper.parity import ctranslate2_writer
from max_whisper.parity.ctranslate2_writer import write_directory
from max_whisper.parity.exchange import checkpoint_for
from max_whisper.parity.measure import ParityError
from support.random_checkpoint import tiny_checkpoint


class Ids:
    """The ids that a configuration lists."""

    all_language_tokens = (50259, 50260)
    non_speech_tokens = (1, 2)
    eot = 50256
    special_tokens: ClassVar = {"<|endoftext|>": 50256, "<|startoftranscript|>": 50257} | {
        f"<|{name}|>": 50358 + i
        for i, name in enumerate(("startofprev", "nospeech", "notimestamps", "transcribe", "translate"))
    }
    sot, sot_prev, sot_lm, no_speech, transcribe, translate = 50257, 50358, 50356, 50359, 50361, 50362

    def encode(self, text: str) -> list[int]:
        return [220]


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    tokens = {"added_tokens": [{"id": 50257, "content": "<|startoftranscript|>"}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    (folder / "vocabulary.txt").write_text("!\n")
    monkeypatch.setattr(ctranslate2_writer, "vocabulary_folders", lambda cache: [folder])
    return folder


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path, vocabulary: Path) -> None:
    original = tiny_checkpoint()
    half = {name: array.astype(np.float16) for name, array in original.tensors.items()}
    for tensors in (original.tensors, half):
        written = Checkpoint(original.dims, tensors, "0" * 64, None, ((1, 0),), "tiny")
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_directory(written, Ids(), folder)  # type: ignore[arg-type]
        read = load_checkpoint(folder)
        assert read.dims == original.dims and read.alignment_heads == ((1, 0),)
        assert set(read.tensors) == set(tensors)
        for name, array in tensors.items():
            assert read.tensors[name].dtype == array.dtype
            np.testing.assert_array_equal(read.tensors[name], array)


def test_no_vocabulary_of_that_kind(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctranslate2_writer, "vocabulary_folders", lambda cache: [])
    with pytest.raises(ParityError, match=r"needs the English tokenizer.json.*max-whisper\[tiny-en\]"):
        write_directory(tiny_checkpoint(), Ids(), tmp_path / "out")  # type: ignore[arg-type]


def test_openai_whisper_is_given_all_arrays_and_dimensions(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    with np.load(checkpoint_for("openai-cpu", checkpoint, tmp_path)) as stored:
        assert json.loads(str(stored["__dims__"])) == vars(checkpoint.dims)
        assert stored["__heads__"].tolist() == [[1, 0]]
        for name, array in checkpoint.tensors.items():
            np.testing.assert_array_equal(stored[name], array)


def test_transformers_is_given_the_original_or_a_directory_of_its_own(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.parity.exchange.tokenizer_of", lambda *_: Ids())
    (tmp_path / "model.safetensors").touch()
    checkpoint = tiny_checkpoint(str(tmp_path))
    assert checkpoint_for("transformers", checkpoint, tmp_path) == str(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    written = Path(checkpoint_for("transformers", checkpoint, tmp_path))
    assert written.parent == tmp_path
    read = load_checkpoint(written)
    assert read.dims == checkpoint.dims and read.alignment_heads == ((1, 0),)
    assert set(read.tensors) == set(checkpoint.tensors)
    for name, array in checkpoint.tensors.items():
        np.testing.assert_array_equal(read.tensors[name], array)
    generation = json.loads((written / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == sorted([1, 2, 50257, 50358, 50356, 50359, 50361, 50362])
    assert generation["begin_suppress_tokens"] == [220, 50256]
    added = json.loads((written / "tokenizer.json").read_text())["added_tokens"]
    assert {token["id"]: token["content"] for token in added} == {
        number: name for name, number in Ids.special_tokens.items()
    }

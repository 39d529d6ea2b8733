"""Byte-pair ranks, ``token bytes -> id``, from the files that stand beside a checkpoint.

Hugging Face and CTranslate2 write a token's bytes in GPT-2's alphabet, which gives every byte a
printable character. Ids below ``<|endoftext|>`` are ordinary tokens; the special ones above are
the tokenizer's business. The ids equal the ranks of openai-whisper's ``.tiktoken`` files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from max_whisper.errors import CheckpointError

END_OF_TEXT = "<|endoftext|>"


class LazyVocabulary(Mapping[bytes, int]):
    """A vocabulary that is read when it is first asked for: opening a model takes no time."""

    def __init__(self, read: Callable[[], Mapping[bytes, int]]) -> None:
        """``read`` is called once, at the first use; its errors appear there."""
        self._read = read
        self._tokens: Mapping[bytes, int] | None = None

    def _all(self) -> Mapping[bytes, int]:
        if self._tokens is None:
            self._tokens = self._read()
        return self._tokens

    def __getitem__(self, token: bytes) -> int:
        """The id of a token."""
        return self._all()[token]

    def __iter__(self) -> Iterator[bytes]:
        """The tokens, in order of id."""
        return iter(self._all())

    def __len__(self) -> int:
        """How many ordinary tokens there are: the id of ``<|endoftext|>``."""
        return len(self._all())


def directory_vocabulary(directory: Path) -> Mapping[bytes, int] | None:
    """The vocabulary in a Hugging Face or CTranslate2 directory, read on first use.

    ``vocabulary.txt`` (one token a line), ``vocabulary.json`` (a list), ``vocab.json`` (token to
    id) and ``tokenizer.json`` are equal in content; the first that exists is taken.

    Returns:
        The mapping, or None if the directory has none of these files.
    """
    for name, read in _READERS.items():
        path = directory / name
        if path.is_file():
            return LazyVocabulary(lambda path=path, read=read: ordinary(read(path), str(path)))  # type: ignore[misc]
    return None


def ordinary(tokens: Mapping[str, int], where: str) -> dict[bytes, int]:
    """Decodes the ordinary tokens of ``tokens``, in order of id.

    Raises:
        CheckpointError: If the ids have a gap, or a token is not in GPT-2's alphabet.
    """
    end = tokens.get(END_OF_TEXT)
    if end is None:
        raise CheckpointError(f"{where} is not Whisper's vocabulary: it has no {END_OF_TEXT}")
    alphabet = _alphabet()
    by_id = {number: token for token, number in tokens.items() if number < end}
    if len(by_id) != end or sorted(by_id) != list(range(end)):
        raise CheckpointError(
            f"{where} is damaged: it has {len(by_id)} of the {end} tokens before {END_OF_TEXT}"
        )
    try:
        decoded = {by_id[number].translate(alphabet).encode("latin-1"): number for number in range(end)}
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{where} is damaged: {error.object!r} is no token of byte-level BPE"
        ) from error
    if len(decoded) != end:
        raise CheckpointError(f"{where} is damaged: two ids stand for the same bytes")
    return decoded


@cache
def _alphabet() -> dict[int, int]:
    """GPT-2's characters -> byte values: printable Latin-1 as itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    # Latin-1 characters outside the alphabet must not pass for themselves: map them out of range.
    strays = dict.fromkeys(others, 65535)
    return strays | {0x100 + index: byte for index, byte in enumerate(others)}


def _lines(path: Path) -> dict[str, int]:
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    tokens = text.removesuffix("\n").split(
        "\n"
    )  # splitlines would also split at characters that are part of tokens
    return {token: number for number, token in enumerate(tokens)}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _token_list(path: Path) -> dict[str, int]:
    value = _json(path)
    if not isinstance(value, list) or not all(isinstance(token, str) for token in value):
        raise CheckpointError(f"{path} is not a list of tokens")
    return {token: number for number, token in enumerate(value)}


def _token_ids(path: Path, value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not all(type(number) is int for number in value.values()):
        raise CheckpointError(f"{path} does not give ids to tokens")
    return value


def _vocab_json(path: Path) -> dict[str, int]:
    tokens = dict(_token_ids(path, _json(path)))
    added = path.with_name("added_tokens.json")
    if END_OF_TEXT not in tokens and added.is_file():
        tokens.update(_token_ids(added, _json(added)))
    return tokens


def _tokenizer_json(path: Path) -> dict[str, int]:
    value = _json(path)
    try:
        tokens = dict(_token_ids(path, value["model"]["vocab"]))
        added = {token["content"]: token["id"] for token in value["added_tokens"]}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the file of a byte-level BPE tokenizer") from error
    return tokens | _token_ids(path, added)


_READERS: Mapping[str, Callable[[Path], dict[str, int]]] = {
    "vocabulary.txt": _lines,
    "vocabulary.json": _token_list,
    "vocab.json": _vocab_json,
    "tokenizer.json": _tokenizer_json,
}

"""Byte-pair ranks, ``token bytes -> id``, from the files that stand beside a checkpoint.

Hugging Face and CTranslate2 write a token's bytes in GPT-2's alphabet, which gives every byte a
printable character. Ids below ``<|endoftext|>`` are ordinary tokens; the special ones above are
the tokenizer's business. The ids equal the ranks of openai-whisper's ``.tiktoken`` files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.checkpoints.cache import cache_folder, write_atomically
from max_whisper.errors import CheckpointError

END_OF_TEXT = "<|endoftext|>"

_ADDED = "added_tokens.json"  # tokens that vocab.json does not have
_VOCAB = "vocab.json"
_LARGE = 1 << 17  # bytes
_FORMAT = 1  # of what is kept: raised whenever files are read or checked otherwise


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

    def items(self) -> ItemsView[bytes, int]:
        """The tokens with their ids, at a dictionary's speed."""
        return self._all().items()

    def values(self) -> ValuesView[int]:
        """The ids, at a dictionary's speed."""
        return self._all().values()

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
            return LazyVocabulary(partial(_of_file, path, read))
    return None


def _of_file(path: Path, read: Callable[[Path], str]) -> dict[bytes, int]:
    return _vocabulary(_all_tokens(path, read), str(path))


def _vocabulary(text: str, where: str) -> dict[bytes, int]:
    """All tokens in order of id, one a line -> the bytes and ids of those before ``<|endoftext|>``."""
    lines = f"\n{text}\n"
    end = lines.find(f"\n{END_OF_TEXT}\n")
    if end < 0:
        raise CheckpointError(f"{where} is not Whisper's vocabulary: it has no {END_OF_TEXT}")
    tokens = _decoded(lines[1:end], where) if end else []
    ids = dict(zip(tokens, range(len(tokens))))
    if len(ids) != len(tokens):
        raise CheckpointError(f"{where} is damaged: two ids stand for the same bytes")
    return ids


def _decoded(lines: str, where: str) -> list[bytes]:
    """All tokens at once: fifty thousand one by one take the time of opening a model."""
    characters = np.frombuffer(lines.encode("utf-32-le", "surrogatepass"), np.uint32)
    values = _alphabet()[np.minimum(characters, _BEYOND)]
    if (values == _STRAY).any():
        stray = chr(int(characters[values == _STRAY][0]))
        raise CheckpointError(f"{where} is damaged: {stray!r} is not in the alphabet of byte-level BPE")
    ends = [*np.flatnonzero(characters == ord("\n")).tolist(), len(characters)]
    raw = values.astype(np.uint8).tobytes()
    return [raw[start + 1 : stop] for start, stop in zip([-1, *ends], ends)]


_BEYOND = 0x200  # past GPT-2's last character
_STRAY = 0xFFFF


@cache
def _alphabet() -> NDArray[np.uint16]:
    """Code point -> byte: printable Latin-1 as itself, the other bytes from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)).difference(printable))
    table = np.full(_BEYOND + 1, _STRAY, np.uint16)
    table[printable] = printable
    table[0x100 : 0x100 + len(others)] = others
    table[ord("\n")] = 0  # between tokens
    return table


def _all_tokens(path: Path, read: Callable[[Path], str]) -> str:
    """What ``read`` makes of a file: all tokens, one a line.

    Of large JSON it is kept under the hash of what was read: to parse that takes twenty times as long.
    """
    if path.suffix != ".json" or len(content := _bytes(path)) < _LARGE:
        return read(path)
    digest = hashlib.sha256(f"{_FORMAT} {path.name}\n".encode() + content)
    if path.name == _VOCAB and (added := path.with_name(_ADDED)).is_file():
        digest.update(_bytes(added))
    place = cache_folder() / "vocabularies" / f"{digest.hexdigest()}.txt"
    with contextlib.suppress(OSError, ValueError):
        check, kept = place.read_bytes().split(b"\n", 1)
        if check == hashlib.sha256(kept).hexdigest().encode():
            return kept.decode("utf-8", "surrogatepass")
    text = read(path)
    fresh = text.encode("utf-8", "surrogatepass")
    with contextlib.suppress(OSError):
        write_atomically(place, hashlib.sha256(fresh).hexdigest().encode() + b"\n" + fresh)
    return text


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _text(path: Path) -> str:
    try:
        # As it is: other characters that end lines are part of tokens.
        return _bytes(path).decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _joined(tokens: list[str], where: str) -> str:
    """Tokens, one a line."""
    text = "\n".join(tokens)
    if text.count("\n") != max(0, len(tokens) - 1):
        raise CheckpointError(f"{where} is damaged: a token contains a line break")
    return text


def _json(path: Path) -> Any:
    try:
        return json.loads(_bytes(path))
    except ValueError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _token_list(path: Path) -> str:
    value = _json(path)
    if not isinstance(value, list) or not all(isinstance(token, str) for token in value):
        raise CheckpointError(f"{path} is not a list of tokens")
    return _joined(value, str(path))


def _vocab_json(path: Path) -> str:
    tokens = _token_ids(path, _json(path))
    added = path.with_name(_ADDED)
    if END_OF_TEXT not in tokens and added.is_file():
        tokens |= _token_ids(added, _json(added))
    return _in_order(tokens, str(path))


def _tokenizer_json(path: Path) -> str:
    value = _json(path)
    try:
        tokens = _token_ids(path, value["model"]["vocab"])
        added = {token["content"]: token["id"] for token in value["added_tokens"]}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not the file of a byte-level BPE tokenizer") from error
    return _in_order(tokens | _token_ids(path, added), str(path))


def _token_ids(path: Path, value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not {int}.issuperset(map(type, value.values())):
        raise CheckpointError(f"{path} does not give ids to tokens")
    return value


def _in_order(tokens: Mapping[str, int], where: str) -> str:
    """The tokens up to ``<|endoftext|>``, one a line; beyond it ids may have gaps, before it they may not."""
    end = tokens.get(END_OF_TEXT, len(tokens))
    ordered = sorted(tokens, key=tokens.__getitem__)
    ordered = ordered[: bisect_right(ordered, end, key=tokens.__getitem__)]
    if [*map(tokens.__getitem__, ordered)] != [*range(len(ordered))]:
        raise CheckpointError(f"{where} is damaged: some ids below {end} are missing or stand twice")
    return _joined(ordered, where)


#: They give all tokens, one a line.
_READERS: Mapping[str, Callable[[Path], str]] = {
    "vocabulary.txt": _text,
    "vocabulary.json": _token_list,
    _VOCAB: _vocab_json,
    "tokenizer.json": _tokenizer_json,
}

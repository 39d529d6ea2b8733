"""One call from a name or a path to a checked checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from max_whisper.checkpoints import huggingface
from max_whisper.checkpoints.cache import cache_folder
from max_whisper.checkpoints.canonical import Contents, check_finite
from max_whisper.checkpoints.catalogue import (
    Model,
    available_models,
    find_model,
    known_file,
    published_models,
)
from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.checkpoints.files import MappedFile
from max_whisper.checkpoints.fingerprint import Records, hash_files
from max_whisper.checkpoints.hub import TOKENIZER_FILES, WEIGHT_PATTERNS, fetch
from max_whisper.checkpoints.progress import Progress
from max_whisper.checkpoints.resolve import (
    Location,
    find_local,
    find_path,
    how_to_install,
    is_repository,
    repository_folder,
    vocabulary_folders,
)
from max_whisper.checkpoints.vocabulary import directory_vocabulary
from max_whisper.errors import CheckpointError

# What the files of formats begin with, or have within their first bytes.
_ZIP = b"PK\x03\x04"
_GGML = b"lmgg"
_CTRANSLATE2 = b"WhisperSpec"
_LEGACY_PICKLE = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def load_checkpoint(
    name_or_path: str | os.PathLike[str],
    *,
    download_root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Opens a checkpoint of any format, wherever it is.

    A name that :func:`available_models` lists is looked for among installed weight packages, in the
    cache folder, in openai-whisper's and the hub's caches, and is then downloaded. ``org/name`` is a
    repository of the hub. Anything else is a path: an OpenAI ``.pt`` file, a ggml ``.bin`` file, or a
    directory from Hugging Face or for CTranslate2; the content decides which.

    Args:
        name_or_path: See above.
        download_root: A folder to use in place of the cache folder.
        progress: Told of a download's bytes.

    Raises:
        CheckpointError: If it cannot be found, or is damaged or not Whisper; the message says what
            is wrong and how a missing one can be installed.
    """
    name = os.fspath(name_or_path)
    cache = cache_folder(download_root)
    model = None
    if isinstance(name_or_path, str):
        model = find_model(name)
        location = _locate(name, model, cache, own_folder=download_root is not None, progress=progress)
    elif (found := find_path(name)) is not None:
        location = found
    else:
        raise CheckpointError(f"there is no checkpoint at {name}")
    opened = _open(location)
    records = Records(cache_folder() / "hashes")
    fingerprint = records.find(opened.files)
    checked = fingerprint is not None
    if fingerprint is None:
        fingerprint = hash_files(opened.files)
    if location.sha256 not in (None, fingerprint):
        raise CheckpointError(
            f"{opened.files[0].name} is not the published {name}: its sha256 is {fingerprint}, not "
            f"{location.sha256}. {_REMEDIES[location.kind]}"
        )
    contents = opened.read()
    known = known_file(fingerprint)
    if not checked:
        if known is None:
            check_finite(contents.tensors, opened.files[0].name)
        records.remember(opened.files, fingerprint)
    return Checkpoint(
        dims=contents.dims,
        tensors=contents.tensors,
        fingerprint=fingerprint,
        vocabulary=contents.vocabulary,
        alignment_heads=contents.alignment_heads or _published_heads(model or known, contents),
        source=name,
    )


_REMEDIES = {
    "package": "Install the package again",
    "cache": "Delete the file to download it again, or give its path to load it as it is",
}


def _published_heads(model: Model | None, contents: Contents) -> tuple[tuple[int, int], ...] | None:
    return model.alignment_heads if model is not None and model.dims == contents.dims else None


def _locate(
    name: str, model: Model | None, cache: Path, *, own_folder: bool, progress: Progress | None
) -> Location:
    """Where the checkpoint lies, after a download if need be."""
    if location := find_local(name, model, cache):
        return location
    if model is None and not is_repository(name):
        raise CheckpointError(
            f"there is no checkpoint at {name}, and no model has that name; the names are "
            f"{', '.join(available_models())}"
        )
    reasons = []
    for bring in _ways(name, model, cache, own_folder, progress):
        try:
            return bring()
        except CheckpointError as error:
            reasons.append(str(error))
    raise CheckpointError(
        f"{name} is not on this machine and could not be downloaded ({'; '.join(reasons)}). "
        f"To install it: {how_to_install(name, model, cache)}"
    )


def _ways(
    name: str, model: Model | None, cache: Path, own_folder: bool, progress: Progress | None
) -> Iterator[Callable[[], Location]]:
    repository = model.hub if model is not None else name
    folder = cache / (model.name if model else repository_folder(name)) if own_folder else None

    def from_hub() -> Location:
        found = fetch(repository, WEIGHT_PATTERNS, folder, progress)
        return Location((found,), found, None, "hub")

    yield from_hub
    if model is not None and model.url is not None and model.sha256 is not None:
        target, url, sha256 = cache / f"{model.name}.pt", model.url, model.sha256

        def from_openai() -> Location:
            from max_whisper.checkpoints.download import download  # its imports cost every start

            download(url, target, sha256, progress)
            return Location((target,), cache, sha256, "cache")

        yield from_openai


@dataclass(frozen=True)
class _Opened:
    """Mapped weights of a recognised format, not yet read."""

    files: Sequence[MappedFile]
    read: Callable[[], Contents]


def _open(location: Location) -> _Opened:
    if location.files[0].is_dir():
        return _open_directory(location.files[0])
    if location.files[0].suffix == ".safetensors":
        return _open_safetensors(location.files, location.directory)
    file = MappedFile(location.files)
    start = file.read(0, min(file.size, 32), "the beginning")
    if start.startswith(_ZIP):
        # Each format's module is loaded for its files alone: all of them together take 8 ms.
        from max_whisper.checkpoints import openai

        return _Opened([file], lambda: openai.read(file))
    if start.startswith(_GGML):
        from max_whisper.checkpoints import ggml

        return _Opened([file], lambda: ggml.read(file))
    if _CTRANSLATE2 in start:
        from max_whisper.checkpoints import ctranslate2

        return _Opened([file], lambda: ctranslate2.read(file, location.directory))
    if start.startswith(_LEGACY_PICKLE):
        raise CheckpointError(
            f"{file.name} was saved in PyTorch's format from before 1.6; load it with PyTorch and "
            "torch.save it again"
        )
    raise CheckpointError(
        f"{file.name} is no checkpoint that this package knows (OpenAI .pt, ggml .bin, CTranslate2 or "
        f"safetensors): it begins with {start[:8]!r}"
    )


def _open_directory(directory: Path) -> _Opened:
    if (directory / "model.bin").is_file():
        return _open(Location((directory / "model.bin",), directory, None, "path"))
    if any((directory / name).is_file() for name in (huggingface.SINGLE, huggingface.INDEX)):
        return _open_safetensors(huggingface.weight_files(directory), directory)
    if (directory / "pytorch_model.bin").is_file():
        raise CheckpointError(
            f"{directory} holds pytorch_model.bin alone; save the model again as safetensors "
            "(save_pretrained does by default)"
        )
    raise CheckpointError(
        f"{directory} holds no checkpoint: neither {huggingface.SINGLE}, {huggingface.INDEX} nor model.bin"
    )


def _open_safetensors(paths: Sequence[Path], directory: Path) -> _Opened:
    files = [MappedFile([path]) for path in paths]
    return _Opened(files, lambda: huggingface.read(files, directory))


def find_vocabulary(
    multilingual: bool,
    download_root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Mapping[bytes, int]:
    """Whisper's ordinary tokens, ``bytes -> id``, for a checkpoint that carries none.

    Looked for in installed weight packages, in the cache folder and in the hub's cache, then fetched
    from the hub.

    Args:
        multilingual: Which of Whisper's two vocabularies.
        download_root: A folder to use in place of the cache folder.
        progress: Told of a download's bytes.

    Raises:
        CheckpointError: If there is none; the message says what to install.
    """
    cache = cache_folder(download_root)
    wanted = 50257 if multilingual else 50256
    for folder in vocabulary_folders(cache):
        vocabulary = directory_vocabulary(folder)
        if vocabulary is not None and _has_length(vocabulary, wanted):
            return vocabulary
    model = next(m for m in published_models() if m.dims.is_multilingual == multilingual and m.packages)
    own = cache / model.name if download_root is not None else None
    try:
        vocabulary = directory_vocabulary(fetch(model.hub, TOKENIZER_FILES, own, progress))
        reason = f"{model.hub} has no vocabulary of {wanted} tokens"
    except CheckpointError as error:
        vocabulary, reason = None, str(error)
    if vocabulary is not None and _has_length(vocabulary, wanted):
        return vocabulary
    kind = "multilingual" if multilingual else "English"
    raise CheckpointError(
        f"the checkpoint carries no vocabulary, and no {kind} one is on this machine ({reason}). "
        f"To install one: {how_to_install(model.name, model, cache)}"
    )


def _has_length(vocabulary: Mapping[bytes, int], wanted: int) -> bool:
    try:
        return len(vocabulary) == wanted
    except CheckpointError:
        return False  # a damaged file elsewhere is no reason to stop looking

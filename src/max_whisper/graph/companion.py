"""Graphs that were compiled elsewhere: the installed package ``max-whisper-graphs``.

It holds data alone: compressed artifacts for the processor families of :mod:`.processor`, and a
manifest that says for which MAX and which sources of kernels and graphs they were made, with the
hash of each. ``scripts/build_artifacts.py`` makes it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from max import _core

from max_whisper.errors import ArtifactWarning
from max_whisper.graph.processor import runnable_families

if TYPE_CHECKING:
    from max_whisper.graph.artifacts import ModuleSpec

#: importlib.metadata says the same, and takes 15 ms of every start to do so.
MAX_VERSION = _core.__version__

PACKAGE = "max_whisper_graphs"
MANIFEST = "manifest.json"
FORMAT = 1

_REMEDY = "install max-whisper-graphs as made for this version; without it, graphs are compiled here"


@dataclass(frozen=True)
class Entry:
    """One artifact of the package.

    Attributes:
        family: The processor family that it was compiled for.
        key: What was compiled, and for whom: :meth:`.ModuleSpec.key_on` of the family.
        file: Its place in the package, a path with slashes.
        sha256: The hash of the artifact, once it is decompressed.
    """

    family: str
    key: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Companion:
    """What lies in one package.

    Attributes:
        folder: Where the package lies.
        entries: Its artifacts by their keys.
    """

    folder: Path
    entries: Mapping[str, Entry]

    def artifact(self, spec: ModuleSpec) -> bytes | None:
        """The artifact of ``spec`` for the best family that this processor can run, or None.

        Warns:
            ArtifactWarning: The one that would be taken is damaged.
        """
        for family in runnable_families():
            if entry := self.entries.get(spec.key_on(family.name)):
                content = self._read(entry)
                if content is not None and entry.family == family.name:
                    return content
                _warn(f"{self.folder / entry.file} is damaged")
        return None

    def _read(self, entry: Entry) -> bytes | None:
        """An artifact as it was compiled; None if it is damaged."""
        try:
            content = zlib.decompress((self.folder / entry.file).read_bytes())
        except (OSError, zlib.error):
            return None
        return content if hashlib.sha256(content).hexdigest() == entry.sha256 else None


def find_artifact(spec: ModuleSpec, sources: str) -> bytes | None:
    """The artifact of ``spec`` in the installed package, or None.

    Args:
        spec: What is wanted.
        sources: The hash of the present sources of kernels and graphs.

    Warns:
        ArtifactWarning: The package is damaged, or was made for another MAX or other sources.
    """
    companion = _installed(sources)
    return companion.artifact(spec) if companion else None


def manifest(entries: Iterable[Entry], sources: str) -> str:
    """The manifest of a package that holds ``entries``, as JSON."""
    listed = [dataclasses.asdict(entry) for entry in entries]
    return json.dumps({"format": FORMAT, "max": MAX_VERSION, "sources": sources, "graphs": listed}, indent=1)


def open_companion(folder: Path, sources: str) -> Companion | None:
    """The package in a folder, or None if it cannot serve.

    Args:
        folder: Where the package lies.
        sources: The hash of the present sources of kernels and graphs.

    Warns:
        ArtifactWarning: It is damaged, or was made for another MAX or other sources.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        made_for = content["format"], content["max"], content["sources"]
        entries = [Entry(**entry) for entry in content["graphs"]]
    except (OSError, ValueError, KeyError, TypeError):
        _warn(f"{folder / MANIFEST} is damaged")
        return None
    if made_for[:2] != (FORMAT, MAX_VERSION):
        _warn(f"the compiled graphs in {folder} are for MAX {made_for[1]}, not {MAX_VERSION}")
        return None
    if made_for[2] != sources:
        _warn(f"the compiled graphs in {folder} are of another version of max-whisper")
        return None
    return Companion(folder, {entry.key: entry for entry in entries})


@functools.cache
def _installed(sources: str) -> Companion | None:
    spec = importlib.util.find_spec(PACKAGE)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    return open_companion(folders[0], sources) if folders else None


def _warn(problem: str) -> None:
    warnings.warn(f"{problem}: {_REMEDY}", ArtifactWarning, stacklevel=2)

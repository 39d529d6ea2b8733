"""Compiled modules on disk: compiled once, verified, loaded in milliseconds ever after.

An artifact holds machine code, so its key covers all that the code depends on: MAX's version, the
kernels' and the graphs' sources, the model's dimensions, the device and the processor's features.
Beside it lies a record with the key and the content's hash; whatever does not agree is compiled
again, unless the package of compiled graphs has it (:mod:`.companion`). Compilers run in processes
of their own, several at a time, each behind a lock, and a finished artifact is moved into place
whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from max.engine import CompiledModel, read

from max_whisper.checkpoints import cache_folder
from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.errors import ArtifactError
from max_whisper.graph.companion import MAX_VERSION, find_artifact
from max_whisper.graph.module import KERNELS
from max_whisper.graph.processor import processor

#: Modules beside the graphs that use what is compiled and do not shape it.
USERS = {
    "artifacts.py",
    "companion.py",
    "compile_for.py",
    "packing.py",
    "probes.py",
    "processor.py",
    "runtime.py",
    "store.py",
}

Progress = Callable[[str, int, "int | None"], None]


@dataclasses.dataclass(frozen=True)
class ModuleSpec:
    """Which graphs are compiled together, and for what.

    Attributes:
        kind: ``whisper``, a model's graphs; ``probe``, those that have every stage as an output; or
            ``common``, what all models share.
        dims: The model's dimensions; of the vocabulary no graph knows.
        precision: The name of a precision of :mod:`max_whisper.graph.precision`.
        device: ``cpu``, or ``gpu`` with an index.
    """

    kind: str
    dims: ModelDimensions
    precision: str
    device: str = "cpu"

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 (hex) of everything that the code compiled for this processor depends on."""
        return self.key_on(processor())

    def key_on(self, target: str) -> str:
        """The same for code that is compiled for another processor, or for a family of them."""
        shape = dataclasses.replace(self.dims, n_vocab=0)
        parts = {
            "graphs": {**dataclasses.asdict(self), "dims": dataclasses.asdict(shape)},
            "max": MAX_VERSION,
            "sources": sources_hash(),
            "processor": target,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def path(self) -> Path:
        """Where the artifact lies."""
        return cache_folder() / "artifacts" / f"{self.kind}-{self.precision}-{self.key[:24]}.mef"

    def to_json(self) -> str:
        """For another process; see :func:`from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> ModuleSpec:
        """The inverse of :meth:`to_json`."""
        values = json.loads(text)
        return ModuleSpec(**{**values, "dims": ModelDimensions(**values["dims"])})


#: What all models share.
COMMON = ModuleSpec("common", ModelDimensions(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), "float32")


def load_modules(specs: Sequence[ModuleSpec], progress: Progress | None = None) -> list[CompiledModel]:
    """The compiled modules, from disk or compiled now, at most one compiler for each processor core.

    Args:
        specs: What is wanted.
        progress: Told how many of the modules that must be compiled are ready.

    Raises:
        ArtifactError: If a module cannot be compiled, or the cache cannot be written.
    """
    found = [load(spec) for spec in specs]
    missing = [i for i, module in enumerate(found) if module is None]
    if missing:
        what = "compiling Whisper for this processor (once)"
        if progress:
            progress(what, 0, len(missing))
        with ThreadPoolExecutor(max_workers=max(1, min(len(missing), os.cpu_count() or 1))) as pool:
            futures = {pool.submit(compile_module, specs[i]): i for i in missing}
            for done, future in enumerate(as_completed(futures), start=1):
                found[futures[future]] = future.result()
                if progress:
                    progress(what, done, len(missing))
    return [module for module in found if module is not None]


def load(spec: ModuleSpec) -> CompiledModel | None:
    """The artifact of ``spec`` if there is a sound one: this processor's own, or a family's."""
    content = kept(spec.path, spec.key) or find_artifact(spec, sources_hash())
    return None if content is None else read(io.BytesIO(content))


def kept(path: Path, key: str) -> bytes | None:
    """The artifact that :func:`keep` wrote, or None if it has another key, is damaged or not there."""
    try:
        record = json.loads(_record(path).read_bytes())
        content = path.read_bytes()
        sound = record["key"] == key and record["sha256"] == hashlib.sha256(content).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if sound else None


def keep(spec: ModuleSpec, path: Path, key: str, family: str | None = None) -> bytes:
    """Compiles ``spec`` and moves the artifact to ``path`` once it is whole; returns it.

    Args:
        spec: What is compiled.
        path: Where it goes; a record lies beside it.
        key: What the record says that it is.
        family: The processor family that it is compiled for; None for this processor.

    Raises:
        ArtifactError: If the compiler fails.
        OSError: If the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compiling-") as folder:
        fresh = Path(folder) / path.name
        _run_compiler(spec, fresh, family)
        content = fresh.read_bytes()
        unfinished = _record(fresh)
        unfinished.write_text(json.dumps({"key": key, "sha256": hashlib.sha256(content).hexdigest()}))
        fresh.replace(path)
        unfinished.replace(_record(path))
    return content


def compile_module(spec: ModuleSpec) -> CompiledModel:
    """Compiles ``spec`` in a process of its own, unless another process just did.

    Raises:
        ArtifactError: If the compiler fails or the cache cannot be written.
    """
    path = spec.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            content = kept(path, spec.key) or keep(spec, path, spec.key)
    except OSError as error:
        raise ArtifactError(
            f"cannot keep the compiled graphs {path}: {error}. Free some space, or set MAX_WHISPER_CACHE "
            "to a folder that can be written"
        ) from error
    return read(io.BytesIO(content))


def _run_compiler(spec: ModuleSpec, path: Path, family: str | None = None) -> None:
    program = ["max_whisper.graph.compile_for", family] if family else ["max_whisper.graph.compile"]
    command = [sys.executable, "-m", *program, spec.to_json(), str(path)]
    environment = dict(os.environ)
    package_root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (package_root, environment.get("PYTHONPATH")) if part
    )
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode or not path.is_file():
        tail = "\n".join(result.stderr.strip().splitlines()[-12:])
        raise ArtifactError(
            f"compiling the {spec.kind} graphs failed (exit status {result.returncode}):\n{tail}"
        )


def _record(path: Path) -> Path:
    return path.with_suffix(".json")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time, and given up with the process, however it ends."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def sources_hash() -> str:
    """The hash of the kernels' and the graphs' sources."""
    digest = hashlib.sha256()
    for path in sorted([*KERNELS.glob("*.mojo"), *KERNELS.parent.glob("*.py")]):
        if path.name in USERS:
            continue
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()

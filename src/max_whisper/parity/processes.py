"""Each engine in a process of its own, behind one interface.

A request is a JSON file that names the engine, the task (``transcribe``, ``stages``,
``decode`` or ``graft``) and the files that hold its arrays; the reply is another. Time and peak memory are
therefore an engine's own, a crash is a crash of that engine alone, and a reference may live in
another Python environment. Whatever fails is raised as it is; nothing takes a result's place.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.checkpoints.checkpoint import Checkpoint
from max_whisper.errors import OptionError
from max_whisper.parity.exchange import checkpoint_for
from max_whisper.parity.measure import Array, ParityError

OURS = ("max", "numpy")
REFERENCES = ("openai-cpu", "openai-gpu", "faster-whisper", "transformers")
BACKENDS = (*OURS, *REFERENCES)
_REFERENCE_WORKER = Path(__file__).parent / "references" / "worker.py"
_SOURCES = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Reply:
    """What an engine gave.

    Attributes:
        result: The task's result.
        load_seconds: From the process's first own instruction to a loaded model.
        seconds: The task alone.
        peak_bytes: The process's greatest resident memory.
        arrays: Where the task wrote arrays, if it did.
    """

    result: dict[str, Any]
    load_seconds: float
    seconds: float
    peak_bytes: int
    arrays: Path | None = None

    def stages(self) -> dict[str, Array]:
        """The arrays of a ``stages`` task."""
        assert self.arrays is not None
        with np.load(self.arrays, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


@dataclass(frozen=True)
class Setting:
    """How engines are run.

    Attributes:
        reference_python: The Python that has the references.
        precision: Of our side.
        device: Of our side.
        threads: For each engine; 0 leaves it to the engine.
        plant: The name of a fault to plant on our side, or None.
        memory_limit: Bytes of address space an engine may have, or None.
    """

    reference_python: str = sys.executable
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 0
    plant: str | None = None
    memory_limit: int | None = None


class Workshop:
    """Runs engines on one checkpoint; its folder holds what they exchange.

    Args:
        folder: An empty folder, the caller's to remove.
        checkpoint: The checkpoint, the same for every engine.
        setting: How engines are run.
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint, setting: Setting) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.setting = setting
        self._numbers = itertools.count()

    def array(self, array: np.ndarray[Any, Any]) -> str:
        """Writes an array for a request."""
        path = self.folder / f"array-{next(self._numbers)}.npy"
        np.save(path, array)
        return str(path)

    def transcribe(self, engine: str, samples: Array, options: Mapping[str, Any]) -> Reply:
        """Transcribes 16 kHz samples with openai-whisper's options."""
        return self._run(engine, "transcribe", {"audio": self.array(samples), "options": dict(options)})

    def stages(self, engine: str, mel: Array, tokens: Sequence[int]) -> Reply:
        """Every stage over a log-mel window (n_mels, frames) and the given tokens."""
        return self._run(engine, "stages", {"mel": self.array(mel), "tokens": list(map(int, tokens))})

    def graft(
        self,
        engine: str,
        mel: Array,
        tokens: Sequence[int],
        grafts: Mapping[str, Array],
        options: Mapping[str, Any],
    ) -> Reply:
        """Decodes a window for each of several stages put in the encoder's own one's place."""
        path = self.folder / f"grafts-{next(self._numbers)}.npz"
        np.savez(path, **dict(grafts))  # type: ignore[arg-type]
        fields = {"mel": self.array(mel), "tokens": list(map(int, tokens))}
        return self._run(engine, "graft", {**fields, "grafts": str(path), "options": dict(options)})

    def decode(self, engine: str, features: Array, options: Mapping[str, Any]) -> Reply:
        """Decodes each of (n, n_audio_ctx, n_audio_state) encoder outputs as a window of its own."""
        return self._run(engine, "decode", {"features": self.array(features), "options": dict(options)})

    def _run(self, engine: str, kind: str, fields: dict[str, Any]) -> Reply:
        if engine not in BACKENDS:
            raise OptionError(f"there is no backend {engine!r}; the backends are {', '.join(BACKENDS)}")
        number = next(self._numbers)
        paths = {name: self.folder / f"{name}-{number}" for name in ("request", "reply", "arrays")}
        arrays = paths["arrays"].with_suffix(".npz")
        setting = self.setting
        request = {
            **fields,
            "engine": engine,
            "kind": kind,
            "checkpoint": checkpoint_for(engine, self.checkpoint, self.folder),
            "reply": str(paths["reply"]),
            "arrays": str(arrays),
            "precision": setting.precision if engine in OURS else None,
            "device": setting.device,
            "threads": setting.threads,
            "plant": setting.plant if engine in OURS else None,
        }
        paths["request"].write_text(json.dumps(request), encoding="utf-8")
        log = _execute(engine, paths["request"], setting)
        reply = _read_reply(engine, paths["reply"], log)
        return Reply(
            reply["result"],
            reply["load_seconds"],
            reply["seconds"],
            reply["peak_bytes"],
            arrays if arrays.exists() else None,
        )


@dataclass(frozen=True)
class _Log:
    status: int
    tail: str


def _execute(engine: str, request: Path, setting: Setting) -> _Log:
    if engine in OURS:
        command = [sys.executable, "-m", "max_whisper.parity.worker", str(request)]
        path = os.pathsep.join(filter(None, [str(_SOURCES), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path}
    else:
        command = [setting.reference_python, str(_REFERENCE_WORKER), str(request)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            preexec_fn=_limiter(setting.memory_limit),
        )
    except OSError as error:
        raise ParityError(f"{engine}: {command[0]} cannot be run: {error.strerror or error}") from error
    return _Log(done.returncode, " / ".join(done.stderr.strip().splitlines()[-3:]))


def _limiter(limit: int | None) -> Any:
    if limit is None:
        return None

    def apply() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return apply


def _read_reply(engine: str, path: Path, log: _Log) -> dict[str, Any]:
    try:
        reply: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        how = f"exit status {log.status}"
        if log.status < 0:
            how = f"killed by {signal.Signals(-log.status).name}"
            how += ", as the system does when memory runs out" if log.status == -signal.SIGKILL else ""
        raise ParityError(f"{engine} crashed ({how}) {log.tail}".rstrip()) from None
    if "error" in reply:
        raise ParityError(f"{engine}: {reply['error']}")
    return reply

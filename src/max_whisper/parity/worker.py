"""Our side's task in a process of its own: ``python -m max_whisper.parity.worker REQUEST.json``."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.checkpoints import load_checkpoint
from max_whisper.errors import MaxWhisperError
from max_whisper.parity.engine import Engine
from max_whisper.parity.faults import find_fault
from max_whisper.parity.measure import Array


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Loads the engine and does the task."""
    start = time.perf_counter()
    engine = Engine(
        request["engine"],
        load_checkpoint(request["checkpoint"]),
        fault=find_fault(request["plant"]) if request["plant"] else None,
        precision=request["precision"],
        device=request["device"],
    )
    try:
        if request["kind"] != "stages":
            engine.runtime()
        loaded = time.perf_counter()
        result = _TASKS[request["kind"]](engine, request)
        done = time.perf_counter()
    finally:
        engine.close()
    return {"result": result, "load_seconds": loaded - start, "seconds": done - loaded}


def _array(path: str) -> Array:
    array: Array = np.load(path, allow_pickle=False)
    return array


def _transcribe(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    return engine.transcribe(_array(request["audio"]), request["options"])


def _stages(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    arrays, tokens = engine.stages(_array(request["mel"]), request["tokens"])
    np.savez(request["arrays"], **arrays)  # type: ignore[arg-type]
    return {"tokens": tokens}


def _decode(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    return engine.decode(_array(request["features"]), request["options"])


def _graft(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    with np.load(request["grafts"], allow_pickle=False) as stored:
        grafts = {name: stored[name] for name in stored.files}
    features = engine.grafted(_array(request["mel"]), grafts)
    return {"stages": list(grafts), **engine.decode(features, request["options"])}


_TASKS = {"graft": _graft, "transcribe": _transcribe, "stages": _stages, "decode": _decode}


def main() -> None:
    """Answers the request in the file named on the command line."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        reply = answer(request)
    except MaxWhisperError as error:
        reply = {"error": str(error)}
    except MemoryError:
        reply = {"error": "out of memory"}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    reply["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    Path(request["reply"]).write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main()

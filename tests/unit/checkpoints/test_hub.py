"""The hub through its own library, against a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support import checkpoint_files as files
from support.checkpoint_files import DIMS, HEADS

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one repository of files, as the hub's interface does."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.fetched: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        entries = {p.name: p.read_bytes() for p in sorted(self.server.folder.iterdir())}
        if path.startswith("/api/models/someone/fine-tuned/tree/"):
            self._json([_entry(name, content) for name, content in entries.items()])
        elif path.startswith("/api/models/someone/fine-tuned"):
            siblings = [{"rfilename": name} for name in entries]
            self._json({"id": "someone/fine-tuned", "sha": COMMIT, "siblings": siblings, "tags": []})
        elif path.startswith("/someone/fine-tuned/resolve/") and path.rpartition("/")[2] in entries:
            name = path.rpartition("/")[2]
            if self.command == "GET":
                self.server.fetched.append(name)
            self._answer(entries[name], "application/octet-stream")
        else:
            self.send_error(404)

    def _json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), "application/json")

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    files.write_huggingface(folder, DIMS, files.random_tensors(), shards=2)
    (folder / "README.md").write_text("not wanted")
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    with Hub(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


PROGRAM = """
import json, sys
from max_whisper.checkpoints import load_checkpoint
from max_whisper.errors import CheckpointError
seen = []
try:
    found = load_checkpoint(sys.argv[1], progress=lambda *event: seen.append(event))
    imported = "huggingface_hub" in sys.modules
    print(json.dumps([found.alignment_heads, len(found.tensors), seen, imported]))
except CheckpointError as error:
    print(json.dumps(str(error)))
"""


def run(hub: Hub, home: Path, name: str = "someone/fine-tuned") -> Any:
    """What a fresh process makes of the name, its hub being the one on this machine."""
    import max_whisper.checkpoints

    environment = os.environ | {
        "PYTHONPATH": str(Path(max_whisper.checkpoints.__file__).parents[2]),
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "XDG_CACHE_HOME": str(home),
        "MAX_WHISPER_CACHE": str(home / "max-whisper"),
        "no_proxy": "*",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # the library's own progress bars stay silent
    return json.loads(done.stdout)


def test_a_repository_is_fetched_once_and_only_what_is_needed(hub: Hub, tmp_path: Path) -> None:
    heads, tensors, seen, imported = run(hub, tmp_path / "home")
    assert heads == [list(pair) for pair in HEADS]
    assert tensors == len(files.random_tensors())
    assert imported
    size = sum(path.stat().st_size for path in hub.folder.iterdir() if path.name not in ("README.md",))
    name, done, total = seen[-1]
    assert name == "someone/fine-tuned"
    assert 0.9 * size < done <= size
    assert total is None or total >= done
    assert {"config.json", "model.safetensors.index.json", "vocab.json"} <= set(hub.fetched)
    assert not {"README.md", "pytorch_model.bin"} & set(hub.fetched)

    hub.fetched.clear()
    _, _, seen, imported = run(hub, tmp_path / "home")
    assert (hub.fetched, seen, imported) == ([], [], False)


def test_a_repository_that_does_not_exist_is_named(hub: Hub, tmp_path: Path) -> None:
    message = run(hub, tmp_path / "home", "someone/nothing")
    assert "cannot fetch someone/nothing from the hub: " in message
    assert "404" in message
    assert (
        "put the files of https://huggingface.co/someone/nothing into a folder and give its path" in message
    )


def test_a_hub_that_cannot_be_reached_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.shutdown()
    hub.server_close()
    message = run(hub, tmp_path / "home")
    assert "someone/fine-tuned is not on this machine and could not be downloaded" in message

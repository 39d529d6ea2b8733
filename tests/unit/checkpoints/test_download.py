"""Downloads from a server on this machine: whole, interrupted, resumed, shared, refused."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from max_whisper.checkpoints import download as module
from max_whisper.checkpoints.download import download
from max_whisper.errors import CheckpointError
from support.file_server import FileServer, serve

CONTENT = np.random.default_rng(0).bytes(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.pt"


def part_of(target: Path) -> Path:
    return target.with_name("model.pt.part")


def test_a_file_arrives_whole_and_is_reported(server: FileServer, target: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    download(server.url, target, SHA256, lambda name, done, total: seen.append((name, done, total)))
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()
    assert seen[-1] == ("model.pt", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert server.requests == [None]


def test_a_file_that_is_there_is_not_asked_for(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    download(server.url, target, SHA256)
    assert server.requests == []


def test_a_broken_connection_is_gone_on_from_at_once(server: FileServer, target: Path) -> None:
    server.cuts = [400_000, 300_000, None]
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=400000-", "bytes=700000-"]


def test_a_connection_that_brings_nothing_ends_the_attempts_and_keeps_the_part(
    server: FileServer, target: Path
) -> None:
    server.cuts = [400_000] + [0] * 10
    with pytest.raises(CheckpointError) as caught:
        download(server.url, target, SHA256)
    message = str(caught.value)
    assert server.url in message
    assert "ended after 400000 of 1500000 bytes" in message
    assert f"the first 400000 bytes are kept in {part_of(target)}: run it again" in message
    assert len(server.requests) == 4
    assert not target.exists()
    server.cuts, server.requests = [], []
    seen: list[int] = []
    download(server.url, target, SHA256, lambda _, done, __: seen.append(done))
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=400000-"]
    assert min(seen) > 400_000


def test_a_server_without_ranges_starts_over(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"something else" * 1000)
    server.ranges = False
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=14000-"]


def test_a_part_of_another_file_is_fetched_anew(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"x" * 1000)
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


@pytest.mark.parametrize("extra", [b"", b"too long"])
def test_a_part_that_is_complete_or_too_long(extra: bytes, server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT + extra)
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == (2 if extra else 1)


def test_a_wrong_hash_leaves_nothing(server: FileServer, target: Path) -> None:
    with pytest.raises(CheckpointError, match=f"has sha256 {SHA256}, not {'0' * 64}"):
        download(server.url, target, "0" * 64)
    assert not target.exists()
    assert not part_of(target).exists()


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (503, "Service Unavailable")])
def test_a_server_that_refuses_is_quoted(status: int, reason: str, server: FileServer, target: Path) -> None:
    server.status = status
    with pytest.raises(CheckpointError, match=f"the server says {status} {reason}"):
        download(server.url, target, SHA256)
    assert not target.exists()


def test_nobody_answers(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serve(b"") as gone:
        url = gone.url
    with pytest.raises(
        CheckpointError, match=r"cannot download http://127\.0\.0\.1:\d+/model\.pt: .*refused"
    ):
        download(url, target, SHA256)


def test_silence_is_waited_for_only_so_long(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    server.stall_after = 0
    with pytest.raises(CheckpointError, match="timed out"):
        download(server.url, target, SHA256)


def test_a_full_disk_is_named_and_what_fitted_is_kept(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._write
    written = 0

    def write(file: object, chunk: bytes) -> None:
        nonlocal written
        if written + len(chunk) > 600_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file, chunk)  # type: ignore[arg-type]
        written += len(chunk)

    monkeypatch.setattr(module, "_write", write)
    with pytest.raises(
        CheckpointError, match=r"cannot write .*model\.pt\.part: No space left on device; the first"
    ):
        download(server.url, target, SHA256)
    assert part_of(target).stat().st_size == written > 0
    assert not target.exists()
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == f"bytes={written}-"


def test_the_systems_own_full_disk(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device"):
        download(server.url, target, SHA256)
    assert not target.exists()


def test_a_folder_that_cannot_be_made_is_named(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*file"):
        download(server.url, tmp_path / "file" / "model.pt", SHA256)


PROGRAM = """
import sys
from pathlib import Path
from max_whisper.checkpoints.download import download
download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


def start(server: FileServer, target: Path) -> subprocess.Popen[bytes]:
    source = Path(module.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(source), "no_proxy": "*"}
    arguments = [sys.executable, "-c", PROGRAM, server.url, str(target), SHA256]
    return subprocess.Popen(arguments, env=environment)


def test_processes_that_want_the_same_file_fetch_it_once(server: FileServer, target: Path) -> None:
    server.stall_after = 500_000
    processes = [start(server, target) for _ in range(3)]
    assert server.sent.wait(30)
    time.sleep(0.3)  # the others come to wait
    server.resume.set()
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert target.read_bytes() == CONTENT
    assert server.requests == [None]


def test_a_killed_process_leaves_what_the_next_goes_on_from(server: FileServer, target: Path) -> None:
    server.stall_after = 700_000
    process = start(server, target)
    assert server.sent.wait(30)
    deadline = time.monotonic() + 20
    while not (part_of(target).exists() and part_of(target).stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    server.resume.set()
    server.stall_after = None
    kept = part_of(target).stat().st_size
    assert 0 < kept <= 700_000
    assert not target.exists()
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == f"bytes={kept}-"

"""The kernels for ARM processors, which an emulator runs.

    KERNELS_ON_ARM="neoverse-n1 cortex-a72" pytest tests/unit/graph/test_kernels.py

holds them to the same definitions, one with the instruction for products of bytes and one without. It
needs Debian's ``qemu-user`` and ``g++-aarch64-linux-gnu``, and fetches Mojo's libraries for ARM.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from max_whisper.graph.module import KERNELS

TRIPLE, SYSTEM = "aarch64-unknown-linux-gnu", "/usr/aarch64-linux-gnu"
PLATFORM = "manylinux_2_34_aarch64"
PROGRAM = Path(__file__).with_suffix(".mojo")
#: Kernels that need nothing of MAX.
LEFT_OUT = {"layer_ops.mojo", "decoder_ops.mojo", "voice_ops.mojo", "tensors.mojo", "__init__.mojo"}
LINE = 64  # bytes: where arrays begin


def emulated(cpu: str, folder: Path) -> Emulated:
    """The kernels as compiled for a processor, in an empty folder."""
    for program in ("qemu-aarch64", "aarch64-linux-gnu-g++"):
        if not shutil.which(program):
            raise RuntimeError(f"there is no {program}: apt install qemu-user g++-aarch64-linux-gnu")
    libraries = _libraries(folder / "libraries")
    package = folder / "kernels"
    package.mkdir()
    (package / "__init__.mojo").touch()
    for path in KERNELS.glob("*.mojo"):
        if path.name not in LEFT_OUT:
            shutil.copy(path, package)
    code, program = folder / "emulated.o", folder / "emulated"
    mojo = [str(Path(sys.executable).with_name("mojo")), "build", "-O3", "-I", str(folder)]
    target = ["--target-triple", TRIPLE, "--target-cpu", cpu, "--emit", "object"]
    _run([*mojo, *target, str(PROGRAM), "-o", str(code)])
    names = [path.name for path in libraries.glob("*.so")]
    linked = [f"-l:{name}" for name in names] + ["-lm", "-lpthread", "-ldl", "-Wl,--allow-shlib-undefined"]
    _run(["aarch64-linux-gnu-g++", str(code), "-o", str(program), f"-L{libraries}", *linked])
    emulator = ["qemu-aarch64", "-cpu", "max", "-L", SYSTEM, "-E", f"LD_LIBRARY_PATH={libraries}"]
    return Emulated([*emulator, str(program)], folder)


def _libraries(folder: Path) -> Path:
    """What a Mojo program needs at run time, from the packages of the version that is installed."""
    folder.mkdir()
    packages = [f"{name}=={version(name)}" for name in ("mojo-compiler", "max-core")]
    wanted = ["--no-deps", "--only-binary=:all:", "--platform", PLATFORM, "--dest", str(folder)]
    _run([sys.executable, "-m", "pip", "download", "--quiet", *wanted, *packages])
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = member.rpartition("/")[2]
                if name.startswith(("libKGEN", "libAsyncRT", "libMSupport")) and name.endswith(".so"):
                    (folder / name).write_bytes(archive.read(member))
        wheel.unlink()
    return folder


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")


class Emulated:
    """Kernels that a command runs.

    Args:
        command: What takes a file of inputs and one for outputs.
        folder: Where these lie.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._command = command
        self._folder = folder

    def __call__(self, inputs: Sequence[np.ndarray | list[int | np.ndarray]]) -> list[np.ndarray]:
        """The outputs of some inputs, of which lists are numbers and addresses of arrays."""
        given, found = self._folder / "inputs", self._folder / "outputs"
        given.write_bytes(packed(inputs))
        _run([*self._command, str(given), str(found)])
        return unpacked(found.read_bytes())


def packed(inputs: Sequence[np.ndarray | list[int | np.ndarray]]) -> bytes:
    """Inputs as `emulated.mojo` reads them: addresses to be made, a table, and what arrays hold."""
    count = sum(isinstance(part, np.ndarray) for each in inputs if isinstance(each, list) for part in each)
    table = np.zeros((len(inputs), 6), np.int64)
    end = 8 * (1 + 2 * count) + table.nbytes
    contents: list[tuple[int, bytes]] = []
    addresses = [count]

    def place(array: np.ndarray) -> int:
        nonlocal end
        start = -(-end // LINE) * LINE
        contents.append((start, np.ascontiguousarray(array).tobytes()))
        end = start + array.nbytes + LINE  # kernels may read a line beyond
        return start

    for entry, each in zip(table, inputs):
        if isinstance(each, list):
            array = np.array([part if isinstance(part, int) else 0 for part in each], np.int64)
        else:
            array = each
        entry[0] = place(array)
        entry[1 : 1 + array.ndim] = array.shape
        for number, part in enumerate(each if isinstance(each, list) else ()):
            if isinstance(part, np.ndarray):
                addresses += [int(entry[0]) + 8 * number, place(part)]
    result = bytearray(end)
    begin = np.array(addresses, np.int64).tobytes() + table.tobytes()
    for start, content in [(0, begin), *contents]:
        result[start : start + len(content)] = content
    return bytes(result)


def unpacked(content: bytes) -> list[np.ndarray]:
    """The outputs that `emulated.mojo` wrote."""
    count = int(np.frombuffer(content, np.int64, 1)[0])
    told = np.frombuffer(content, np.int64, 3 * count, 8).reshape(count, 3)
    start, outputs = 8 * (1 + 3 * count), []
    for integers, rows, columns in told.tolist():
        shape = (columns,) if rows < 0 else (rows, columns)
        array = np.frombuffer(content, np.int32 if integers else np.float32, abs(rows) * columns, start)
        outputs.append(array.reshape(shape).copy())
        start += array.nbytes
    return outputs

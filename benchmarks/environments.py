"""Each engine's own virtual environment, made with pip under a cache folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.engines import ENVIRONMENTS
from max_whisper.checkpoints import cache_folder

_STAMP = ".installed"


class BenchmarkError(Exception):
    """Something that the benchmark cannot do, with the remedy."""


def default_cache() -> Path:
    """Where environments, weights and prompts are kept."""
    return cache_folder().with_name("max-whisper-benchmarks")


def named_path(given: str) -> tuple[str, Path]:
    """A value of ``--python``: the name of an environment and its interpreter.

    Raises:
        BenchmarkError: It is no such pair.
    """
    name, equals, path = given.partition("=")
    if not equals:
        raise BenchmarkError(f"--python takes NAME=PYTHON, not {given!r}")
    return name, Path(path)


class Environments:
    """Finds and makes environments.

    Args:
        folder: Where they lie.
        given: Interpreters to use in place of an environment, by its name.
    """

    def __init__(self, folder: Path, given: Mapping[str, Path]) -> None:
        for name in given:
            if name not in ENVIRONMENTS:
                raise BenchmarkError(f"there is no environment {name!r}: there are {', '.join(ENVIRONMENTS)}")
        self.folder = folder
        self.given = given

    def python(self, name: str) -> Path:
        """The interpreter of an environment.

        Raises:
            BenchmarkError: It is not set up.
        """
        if name in self.given:
            return self.given[name]
        if not ENVIRONMENTS[name].requirements:
            return Path(sys.executable)
        if not self._stamp(name).is_file():
            raise BenchmarkError(f"the environment {name} is not set up; run with --setup first")
        return self.folder / name / "bin" / "python"

    def set_up(self, names: Iterable[str]) -> None:
        """Makes those that are missing or asked for other packages.

        Raises:
            BenchmarkError: pip could not install one.
        """
        for name in names:
            environment = ENVIRONMENTS[name]
            wanted = "\n".join(environment.requirements)
            stamp = self._stamp(name)
            if name in self.given or not wanted or (stamp.is_file() and stamp.read_text() == wanted):
                continue
            print(f"setting up {name} in {self.folder / name}", flush=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.folder / name, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(self.folder / name)], check=True)
            built = environment.from_source
            if not (built and self._pip(name, ["--no-binary", built, *environment.requirements])):
                if built:
                    print(f"{built} could not be built here; its wheel, for any processor, is taken")
                if not self._pip(name, environment.requirements):
                    raise BenchmarkError(f"pip could not install {', '.join(environment.requirements)}")
            stamp.write_text(wanted)

    def _pip(self, name: str, arguments: Iterable[str]) -> bool:
        python = str(self.folder / name / "bin" / "python")
        return subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments]).returncode == 0

    def _stamp(self, name: str) -> Path:
        return self.folder / name / _STAMP

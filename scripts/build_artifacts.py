"""Compiles Whisper's graphs ahead of time, into a wheel of the package max-whisper-graphs.

    python scripts/build_artifacts.py [--models tiny.en,base] [--families x86-64-v3,znver4]
        [--precisions int8,float32-float16] [--jobs N] [--work FOLDER] [--output FOLDER]

Where that wheel is installed beside the max-whisper of the same sources, nothing is compiled: a
first start takes the graphs of the best family that its processor can run. No weights are needed
here, and every family is compiled on any x86-64 machine. What has been compiled stays in the work
folder, so that a build that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from max_whisper.checkpoints.catalogue import available_models, find_model, published_models
from max_whisper.graph.artifacts import COMMON, ModuleSpec, keep, kept, sources_hash
from max_whisper.graph.companion import MANIFEST, PACKAGE, Entry, manifest
from max_whisper.graph.precision import FLOAT16_WEIGHTS, PRECISIONS, find_precision, suited
from max_whisper.graph.processor import FAMILIES
from max_whisper.version import __version__

MODELS = [model.name for model in published_models()]
PRECISION_NAMES = [FLOAT16_WEIGHTS.name, *(precision.name for precision in PRECISIONS.values())]
FAMILY_NAMES = [family.name for family in FAMILIES]

PROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "max-whisper-graphs"
version = "{version}"
description = "Compiled graphs for max-whisper {version}: {contents}"
license = "Apache-2.0"
requires-python = ">=3.10"

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
ignore-vcs = true
"""


def specs_of(
    models: Iterable[str], precisions: Iterable[str], families: Iterable[str]
) -> dict[str, tuple[ModuleSpec, str]]:
    """Every module to compile and its family, by key; models of one shape share theirs."""
    found = {}
    for family in families:
        specs = [COMMON]
        for name in models:
            model = find_model(name)
            assert model is not None, name
            specs += [
                ModuleSpec("whisper", model.dims, suited(find_precision(precision), family).name)
                for precision in precisions
            ]
        found |= {spec.key_on(family): (spec, family) for spec in specs}
    return found


def compile_all(specs: dict[str, tuple[ModuleSpec, str]], work: Path, jobs: int) -> dict[str, Path]:
    """Compiles what the work folder does not hold yet; returns the artifacts' paths by key."""
    work.mkdir(parents=True, exist_ok=True)
    paths = {key: work / f"{_name(spec, key)}.mef" for key, (spec, _) in specs.items()}
    missing = [key for key in specs if kept(paths[key], key) is None]
    print(f"{len(specs) - len(missing)} of {len(specs)} modules are compiled already", flush=True)
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = {}
        for key in missing:
            spec, family = specs[key]
            futures[pool.submit(keep, spec, paths[key], key, family)] = key
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                size = len(future.result())
                spec, family = specs[futures[future]]
                minutes = (time.monotonic() - started) / 60
                print(
                    f"[{done}/{len(missing)}] {spec.kind} {spec.precision} of width {_width(spec)} for "
                    f"{family}: {size / 1000:.0f} kB; {minutes:.1f} min, "
                    f"about {minutes / done * (len(missing) - done):.1f} to go",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return paths


def fill_package(specs: dict[str, tuple[ModuleSpec, str]], paths: dict[str, Path], folder: Path) -> None:
    """Writes the package's folder: the compressed artifacts and their manifest."""
    entries = []
    for key, (spec, family) in specs.items():
        content = paths[key].read_bytes()
        file = f"{family}/{_name(spec, key)}.mef.z"
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(zlib.compress(content, 9))
        entries.append(Entry(family, key, file, hashlib.sha256(content).hexdigest()))
    (folder / MANIFEST).write_text(manifest(entries, sources_hash()))
    (folder / "__init__.py").write_text('"""Compiled graphs for max-whisper: data alone."""\n')


def build_wheel(project: Path, contents: str, output: Path) -> Path:
    """Makes a wheel of the project folder, in which the package's folder lies; returns its path."""
    text = PROJECT.format(version=__version__, contents=contents, package=PACKAGE)
    (project / "pyproject.toml").write_text(text)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(output)]
    subprocess.run([*command, str(project)], check=True)
    return max(output.glob(f"{PACKAGE}-*.whl"), key=lambda path: path.stat().st_mtime)


def _name(spec: ModuleSpec, key: str) -> str:
    return f"{spec.kind}-{spec.precision}-{key[:24]}"


def _width(spec: ModuleSpec) -> int:
    return spec.dims.n_audio_state


def _list(text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"unknown {name!r}: there are {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, every, known in (
        ("--models", MODELS, available_models()),
        ("--precisions", PRECISION_NAMES, PRECISION_NAMES),
        ("--families", FAMILY_NAMES, FAMILY_NAMES),
    ):
        parser.add_argument(
            flag,
            type=lambda text, known=known: _list(text, known),
            default=every,
            metavar="NAME,...",
            help=f"all by default: {', '.join(every)}",
        )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at a time")
    parser.add_argument("--work", type=Path, default=Path("build/graphs"), help="keeps what is compiled")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="where the wheel goes")
    args = parser.parse_args()
    specs = specs_of(args.models, args.precisions, args.families)
    paths = compile_all(specs, args.work / "compiled", args.jobs)
    project = args.work / "project"
    shutil.rmtree(project, ignore_errors=True)
    fill_package(specs, paths, project / PACKAGE)
    contents = f"{', '.join(args.models)} for {', '.join(args.families)}"
    wheel = build_wheel(project, contents, args.output)
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, {len(specs)} modules")


if __name__ == "__main__":
    main()

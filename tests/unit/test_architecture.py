"""Dependencies point one way, and only graph/ knows MAX."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}

# What each part may import of the others; parts that are not listed may import anything.
ALLOWED = {
    "errors": set(),
    "version": set(),
    "blas": set(),
    "preload": set(),
    "media": {"errors"},
    "spectrogram": {"errors", "media", "blas"},
    "audio": {"errors", "media", "spectrogram"},
    "tokenizer": {"errors", "checkpoints"},
    "checkpoints": {"errors"},
    "normalizers": {"errors"},
    "subtitles": {"errors"},
    "writers": {"errors", "subtitles"},
    "decoding": {"errors", "checkpoints", "tokenizer"},
    "graph": {"errors", "checkpoints", "decoding"},
    "transcribe": {
        "errors",
        "checkpoints",
        "tokenizer",
        "audio",
        "spectrogram",
        "blas",
        "decoding",
        "writers",
    },
    "timing": {"transcribe"},
    "windows": {"errors", "tokenizer", "audio", "decoding", "transcribe"},
    "model": {"errors", "checkpoints", "tokenizer", "audio", "transcribe", "graph", "windows", "preload"},
}
# openai-whisper has functions there that take a model; they name its class for type checkers alone.
MODEL_FACADES = {"max_whisper.decoding", "max_whisper.transcribe", "max_whisper.timing"}


def imports(path):
    """(module, whether for type checkers alone) for each import of a file."""
    tree = ast.parse(path.read_text())
    typing_only = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            typing_only.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module), id(node) in typing_only
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in typing_only
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in typing_only


def part(module):
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[0] == "max_whisper" else None


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_point_one_way(module):
    own = part(module)
    if own not in ALLOWED:
        return
    for imported, typing_only in imports(MODULES[module]):
        if module in MODEL_FACADES and typing_only and part(imported) in {"model", "tokenizer"}:
            continue
        other = part(imported)
        assert imported != "max_whisper" or own is None, f"{module} imports the package's front"
        assert other in {None, own, *ALLOWED[own]}, f"{module} must not import {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_only_graph_imports_max(module):
    known = {imported.split(".")[0] for imported, _ in imports(MODULES[module])}
    if part(module) != "graph":
        assert not known & {"max", "mojo"}
    assert "torch" not in known or part(module) == "parity"


def test_the_walk_sees_imports():
    assert "max_whisper.decoding" in MODULES
    found = dict(imports(MODULES["max_whisper.decoding.window"]))
    assert found["max_whisper.tokenizer"] is True
    assert found["max_whisper.decoding.requests"] is False

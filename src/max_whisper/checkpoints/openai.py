"""OpenAI's ``.pt`` files, and any that ``torch.save`` wrote of ``{"dims", "model_state_dict"}``.

The names are the canonical ones already: ``encoder.blocks.0.attn.query.weight`` stays what it is,
``encoder.positional_embedding`` is stored though it is no parameter.

The file is a zip archive: ``*/data.pkl`` is a pickle of the dictionaries, ``*/data/N`` holds the
bytes of storage N. A pickle can call any function; this one is held to what a dictionary of tensors
needs. PyTorch is not imported.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from max_whisper.checkpoints.canonical import Contents, Tensor, check_dimensions, check_tensors
from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.checkpoints.files import MappedFile, widen_bfloat16
from max_whisper.errors import CheckpointError

_LARGEST_PICKLE = 1 << 26  # bytes; large-v3's is below 200 kB
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_BFLOAT16 = "BFloat16Storage"
_STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", _BFLOAT16: "<u2"}
_OTHER_STORAGES = {
    f"{kind}Storage" for kind in ("Double", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
}


def read(file: MappedFile) -> Contents:
    """A ``.pt`` checkpoint; its tensors are views of the file.

    Raises:
        CheckpointError: If the file is damaged, asks for anything but tensors, or is no Whisper.
    """
    archive = _Archive(file)
    top = _unpickled(archive)
    lacking = [key for key in ("dims", "model_state_dict") if not isinstance(top.get(key), Mapping)]
    if lacking:
        raise CheckpointError(
            f"{file.name} is not an openai-whisper checkpoint: it lacks {' and '.join(lacking)}, "
            f"it has {', '.join(map(str, top)) or 'nothing'}"
        )
    dims = _dimensions(top["dims"], file.name)
    state: Mapping[Any, Any] = top["model_state_dict"]
    if odd := [name for name, value in state.items() if not isinstance(value, _Tensor)]:
        raise CheckpointError(f"{file.name}: {odd[0]!r} in model_state_dict is not a tensor")
    tensors = {str(name): value.array for name, value in state.items()}
    check_tensors(dims, tensors, file.name)
    return Contents(dims=dims, tensors=tensors, vocabulary=None, alignment_heads=None)


class _Archive:
    """The zip archive, its members as arrays on the mapped file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        try:
            with zipfile.ZipFile(Path(file.name)) as archive:
                self._members = {info.filename: info for info in archive.infolist()}
                pickles = [name for name in self._members if name == "data.pkl" or name.endswith("/data.pkl")]
                # torch.save compresses nothing, so nothing that it wrote can fail to be decompressed.
                stored = all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
                if len(pickles) != 1 or not stored:
                    raise CheckpointError(f"{file.name} is a zip archive, but not one that torch.save wrote")
                self._root = pickles[0].removesuffix("data.pkl")
                if self._members[pickles[0]].file_size > _LARGEST_PICKLE:
                    raise CheckpointError(
                        f"{file.name}: {pickles[0]} is too large for a dictionary of tensors"
                    )
                self.pickle = archive.read(pickles[0])
                order = f"{self._root}byteorder"
                if order in self._members and archive.read(order) != b"little":
                    raise CheckpointError(f"{file.name} was written on a big-endian machine; save it again")
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{file.name} is truncated or damaged: {error}") from error

    def storage(self, key: str, dtype: str, items: int) -> Tensor:
        """The ``items`` numbers of a storage."""
        name = f"{self._root}data/{key}"
        member = self._members.get(name)
        if member is None:
            raise CheckpointError(f"{self.file.name} is damaged: it lacks {name}")
        if member.file_size != items * np.dtype(dtype).itemsize:
            raise CheckpointError(
                f"{self.file.name} is damaged: {name} does not hold {items} numbers as they are"
            )
        header = self.file.read(member.header_offset, _LOCAL_HEADER.size, name)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04":
            raise CheckpointError(f"{self.file.name} is damaged: {name} has no header")
        start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        return self.file.array(start, dtype, (items,), name)


# What the pickle may name. A pickle can also set attributes of objects that it holds, so none of
# these has any that could be set.


@dataclass(frozen=True)
class _StorageType:
    __slots__ = ("name",)
    name: str


@dataclass(frozen=True)
class _Storage:
    __slots__ = ("dtype", "items")
    items: Tensor
    dtype: str


@dataclass(frozen=True)
class _Tensor:
    __slots__ = ("array",)
    array: Tensor


class _Rebuild:
    """Stands for ``torch._utils._rebuild_tensor_v2``."""

    __slots__ = ()

    def __call__(self, storage: _Storage, offset: int, size: Any, stride: Any, *_: object) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise CheckpointError("a tensor without a storage")
        shape, steps = tuple(map(int, size)), tuple(map(int, stride))
        if len(shape) != len(steps) or min((offset, *shape, *steps)) < 0:
            raise CheckpointError(f"a tensor of size {shape} and stride {steps} at {offset}")
        count = math.prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps))
        if count > len(storage.items) or (count and last >= len(storage.items)):
            raise CheckpointError(
                f"a tensor of size {shape} reaches beyond its storage of {len(storage.items)}"
            )
        if not count:
            return _Tensor(np.empty(shape, storage.items.dtype))
        width = storage.items.itemsize
        view = as_strided(storage.items[offset:], shape, [step * width for step in steps], writeable=False)
        return _Tensor(widen_bfloat16(view) if storage.dtype == _BFLOAT16 else view)


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, archive: _Archive) -> None:
        super().__init__(io.BytesIO(archive.pickle), encoding="utf-8")
        self._archive = archive

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _STORAGES.keys() | _OTHER_STORAGES:
            return _StorageType(name)
        raise CheckpointError(
            f"it asks for {module}.{name}, which a checkpoint has no need of; nothing of it was run. "
            "Save it again as dims and model_state_dict alone, or use a file from a source you trust"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, items = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise CheckpointError(f"it refers to {pid!r}, which is no storage")
        dtype = _STORAGES.get(storage_type.name)
        if dtype is None:
            raise CheckpointError(
                f"it holds a torch.{storage_type.name}; weights are float32, float16 or bfloat16"
            )
        return _Storage(self._archive.storage(str(key), dtype, int(items)), storage_type.name)


def _unpickled(archive: _Archive) -> Mapping[str, Any]:
    name = archive.file.name
    try:
        top = _TensorUnpickler(archive).load()
    except CheckpointError as error:
        raise CheckpointError(f"{name} is refused: {error}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(f"{name} is damaged: its pickle cannot be read: {error}") from error
    if not isinstance(top, Mapping):
        raise CheckpointError(f"{name} is not an openai-whisper checkpoint: it holds a {type(top).__name__}")
    return top


def _dimensions(stored: Mapping[str, Any], where: str) -> ModelDimensions:
    names = {field.name for field in fields(ModelDimensions)}
    if set(stored) != names:
        wrong = ", ".join(sorted(map(str, names.symmetric_difference(stored))))
        raise CheckpointError(f"{where}: its dims lack or have beyond the known ones: {wrong}")
    dims = ModelDimensions(**stored)
    check_dimensions(dims, where)
    return dims

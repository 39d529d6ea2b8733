"""The cores that there are, and numpy's work on all of them: it computes without Python's lock."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What a function makes of each item, in their order; the first error is raised."""
    return list(_pool().map(function, items))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """The threads; a start that finds its weights packed needs none."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(available_cores(), thread_name_prefix="packing")

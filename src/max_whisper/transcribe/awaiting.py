"""Blocking work for an event loop: done in its threads, and never left behind."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from typing import TypeVar

Result = TypeVar("Result")

_END = object()


async def in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Calls a function in a thread of the loop's executor.

    When the task is cancelled, the function is still waited for: whatever it uses is free afterwards.

    Args:
        function: What to call.
        stop: Set when the task is cancelled, so that a function that heeds it ends soon.
    """
    import asyncio  # whoever awaits has it; all others start without

    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue  # cancelled once more; the thread is as busy as before
        if not future.cancelled():
            future.exception()  # seen, for nobody else will ask
        raise


async def iterated(
    start: Callable[[], Iterator[Result]], stop: threading.Event
) -> AsyncGenerator[Result, None]:
    """Yields what a generator yields; the loop goes on while it works.

    It works while somebody waits for its next value. Where the async generator is closed or its task
    cancelled, the generator is stopped and closed before that returns.

    Args:
        start: Makes the generator; may block.
        stop: Heeded by the generator.
    """
    iterator: Iterator[Result] = await in_thread(start, stop)
    try:
        while (value := await in_thread(partial(next, iterator, _END), stop)) is not _END:
            yield value
    finally:
        stop.set()
        close = getattr(iterator, "close", None)
        if close is not None:
            await in_thread(close)

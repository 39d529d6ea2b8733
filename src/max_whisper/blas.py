"""numpy's products of matrices on one thread.

OpenBLAS divides a product among threads of its own, which stay awake for some milliseconds after it:
on the very cores that the kernels' threads want next, for the window whose spectrogram it was.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """A context in which numpy takes no thread but the caller's."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    # To look for the libraries takes a millisecond, and numpy's is loaded once and for all.
    return ThreadpoolController()

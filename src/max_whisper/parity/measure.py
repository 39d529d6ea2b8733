"""How far two arrays are apart, and whether that is near enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import MaxWhisperError

Array = NDArray[np.float32]


class ParityError(MaxWhisperError):
    """A comparison cannot be made, or its reference cannot be had or trusted."""


@dataclass(frozen=True)
class Tolerance:
    """What a stage may deviate by, in standard deviations of the reference.

    These are the whole array's, or those of the position's own channels where they are greater:
    Whisper's streams have a few positions with values a hundred times the rest, and what is
    rounding there would be an error elsewhere.

    In some recordings, single positions are so sensitive that rounding in one stage becomes an error
    above the tolerance some stages on; the reference's own float32 result is off from its float64
    one by as much there. Where every stage is shown to follow from our own stage before it within
    ``LOCAL``, at all positions, up to one position in fifty may therefore be off by more.

    The two measures are for two kinds of arithmetic. In float32 every single element must be
    right; where activations are rounded to 8 or 16 bits, single outliers are expected and the
    root mean square is what says whether the computation is the same.

    Attributes:
        greatest: The greatest deviation of any element (infinite: not asked).
        rms: The root mean square deviation, one position in fifty left out (infinite: not asked).
    """

    greatest: float = float("inf")
    rms: float = float("inf")

    @property
    def of_elements(self) -> bool:
        """Whether every single element counts."""
        return bool(np.isfinite(self.greatest))

    def __str__(self) -> str:
        """``max 0.001 sd`` or ``rms 0.05 sd``."""
        limits = (("max", self.greatest), ("rms", self.rms))
        return ", ".join(f"{name} {limit:g} sd" for name, limit in limits if np.isfinite(limit))


#: How far a stage may be from what follows from our own stage before it, in standard deviations.
LOCAL = 3e-4
#: The share of positions that may be off by more than the tolerance where that holds; one in any case.
EXCUSED = 0.02

#: By the precision of our side.
TOLERANCES = {
    "float32": Tolerance(greatest=1e-3),
    "bfloat16": Tolerance(rms=5e-2),
    "int8": Tolerance(rms=0.15),
}


@dataclass(frozen=True)
class Difference:
    """One array against its reference.

    Attributes:
        shape: The whole array's shape.
        max_abs: Greatest absolute error.
        mean_abs: Mean absolute error.
        relative: Euclidean norm of the error over the reference's.
        cosine: Cosine of the angle between the two arrays.
        ours: (mean, standard deviation) of our side.
        reference: The same of the reference.
        deviation: The greatest error in standard deviations; see :class:`Tolerance`.
        rms: Root mean square error in standard deviations, the worst positions left out.
        excused: How many positions are beyond the tolerance and held for rounding.
        local: The greatest error against what follows from our own stage before it, in standard
            deviations; None where that was not computed.
        passed: Whether the tolerance holds.
    """

    shape: tuple[int, ...]
    max_abs: float
    mean_abs: float
    relative: float
    cosine: float
    ours: tuple[float, float]
    reference: tuple[float, float]
    deviation: float
    rms: float
    excused: int
    local: float | None
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Side(Protocol):
    """One side's arrays by stage, whole or sampled."""

    def names(self) -> list[str]:
        """Stages in the order of the computation."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a stage's whole array."""

    def values(self, name: str) -> Array:
        """The elements at hand."""

    def pick(self, name: str, array: Array) -> Array:
        """Of a whole array of the other side, the elements that :meth:`values` has."""

    def moments(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation of the whole array."""


@dataclass(frozen=True, eq=False)
class Whole:
    """Stages at hand in full."""

    arrays: dict[str, Array]

    def names(self) -> list[str]:
        """See :class:`Side`."""
        return list(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """See :class:`Side`."""
        return self.arrays[name].shape

    def values(self, name: str) -> Array:
        """See :class:`Side`."""
        return self.arrays[name]

    def pick(self, name: str, array: Array) -> Array:
        """See :class:`Side`."""
        return array

    def moments(self, name: str) -> tuple[float, float]:
        """See :class:`Side`."""
        return _moments(self.arrays[name])


class Stored:
    """The sampled stages of a file that ``scripts/make_reference.py layers`` wrote.

    Args:
        path: The ``.npz`` file.

    Raises:
        ParityError: If it is not such a file.
    """

    def __init__(self, path: str) -> None:
        try:
            with np.load(path, allow_pickle=False) as stored:
                self._arrays = {key: stored[key] for key in stored.files}
            self.tokens: list[int] = self._arrays["tokens"].tolist()
        except (OSError, ValueError, KeyError) as error:
            raise ParityError(f"{path} is not a file of reference stages: {error}") from error

    def names(self) -> list[str]:
        """See :class:`Side`."""
        return [key.removesuffix(":values") for key in self._arrays if key.endswith(":values")]

    def shape(self, name: str) -> tuple[int, ...]:
        """See :class:`Side`."""
        return tuple(self._arrays[f"{name}:shape"].tolist())

    def values(self, name: str) -> Array:
        """See :class:`Side`."""
        values: Array = self._arrays[f"{name}:values"]
        return values

    def pick(self, name: str, array: Array) -> Array:
        """See :class:`Side`."""
        picked: Array = array[np.ix_(self._arrays[f"{name}:rows"], self._arrays[f"{name}:columns"])]
        return picked

    def moments(self, name: str) -> tuple[float, float]:
        """See :class:`Side`."""
        mean, std = self._arrays[f"{name}:moments"].tolist()[:2]
        return mean, std


def measure(
    name: str, ours: Array, reference: Side, tolerance: Tolerance, follows: Array | None = None
) -> Difference:
    """Our whole array of a stage against the reference's.

    Args:
        name: The stage.
        ours: Our array.
        reference: The reference's side.
        tolerance: What is near enough.
        follows: What the stage is if it is computed from our own stage before it; without it no
            position is excused.

    Raises:
        ParityError: If the shapes differ, or the reference has a value that is not finite.
    """
    if ours.shape != reference.shape(name):
        raise ParityError(
            f"{name} has shape {ours.shape} on our side, {reference.shape(name)} in the reference"
        )
    expected = reference.values(name).astype(np.float64)
    if not np.isfinite(expected).all():
        raise ParityError(f"the reference's {name} has values that are not finite")
    found = reference.pick(name, ours).astype(np.float64)
    mean, std = reference.moments(name)
    error = np.abs(found - expected)
    scale = np.maximum(std, expected.std(axis=-1, keepdims=True))
    scaled = error / scale
    greatest, rms = float(scaled.max()), _rms(scaled)
    local = None if follows is None else deviation(ours, follows)
    # A comparison with nan is false, so an array with nan fails.
    near = greatest <= tolerance.greatest
    beyond = 0 if near else int((scaled.max(axis=-1) > tolerance.greatest).sum())
    if local is not None and tolerance.of_elements:
        few = beyond <= max(1, int(EXCUSED * len(scaled)))
        near = local <= LOCAL and few and bool(np.isfinite(greatest))
    lengths = float(np.linalg.norm(found)), float(np.linalg.norm(expected))
    return Difference(
        shape=ours.shape,
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        relative=float(np.linalg.norm(error)) / lengths[1],
        cosine=float((found * expected).sum()) / (lengths[0] * lengths[1]) if lengths[0] else 0.0,
        ours=_moments(ours),
        reference=(mean, std),
        deviation=greatest,
        rms=rms,
        excused=beyond if near else 0,
        local=local,
        passed=near and rms <= tolerance.rms,
    )


def deviation(found: Array, expected: Array) -> float:
    """The greatest error of any element in standard deviations, see :class:`Tolerance`; nan for nan."""
    exact = expected.astype(np.float64)
    scale = np.maximum(exact.std(), exact.std(axis=-1, keepdims=True))
    return float((np.abs(found - exact) / scale).max())


def _rms(scaled: NDArray[np.float64]) -> float:
    """Root mean square over all positions but the worst ones, which narrow arithmetic upsets."""
    positions = np.sort((scaled**2).mean(axis=-1))
    kept = positions[: len(positions) - int(EXCUSED * len(positions))]
    return float(np.sqrt(kept.mean()))


def _moments(array: Array) -> tuple[float, float]:
    exact = array.astype(np.float64)
    return float(exact.mean()), float(exact.std())

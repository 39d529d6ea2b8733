from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from max_whisper.parity.measure import Difference, ParityError, Stored, Tolerance, Whole, measure

ARRAY = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32) * 3 + 1
STRICT = Tolerance(greatest=1e-3)


def test_equal_arrays_have_no_difference() -> None:
    found = measure("a", ARRAY.copy(), Whole({"a": ARRAY}), STRICT)
    assert found.passed
    assert (found.max_abs, found.mean_abs, found.relative, found.deviation, found.rms) == (0, 0, 0, 0, 0)
    assert found.cosine == pytest.approx(1)
    assert found.ours == found.reference == pytest.approx((ARRAY.mean(), ARRAY.std()))


def test_one_wrong_element_fails_and_is_measured() -> None:
    ours = ARRAY.copy()
    ours[7, 3] += 0.5
    found = measure("a", ours, Whole({"a": ARRAY}), STRICT)
    scale = max(ARRAY.std(), ARRAY[7].std())
    assert not found.passed
    assert found.max_abs == pytest.approx(0.5, rel=1e-5)
    assert found.mean_abs == pytest.approx(0.5 / 120, rel=1e-5)
    assert found.deviation == pytest.approx(0.5 / scale, rel=1e-5)
    assert found.relative == pytest.approx(0.5 / np.linalg.norm(ARRAY), rel=1e-5)


def test_a_position_of_great_values_is_measured_by_its_own() -> None:
    reference = np.tile(ARRAY, (100, 1))
    reference[4] *= 100
    ours = reference.copy()
    ours[4, 0] += 0.1
    assert measure("a", ours, Whole({"a": reference}), STRICT).passed
    ours = reference.copy()
    ours[5, 0] += 0.1
    assert not measure("a", ours, Whole({"a": reference}), STRICT).passed


def test_a_few_positions_may_be_off_where_each_stage_follows_from_our_own_before_it() -> None:
    reference = np.tile(ARRAY, (15, 1))
    ours = reference.copy()
    ours[[4, 7, 70], 0] += 0.02

    def found(follows: np.ndarray | None) -> Difference:
        return measure("a", ours, Whole({"a": reference}), STRICT, follows)

    unknown = found(None)
    assert not unknown.passed and unknown.excused == 0 and unknown.local is None
    held = found(ours + np.float32(1e-4))
    assert held.passed and held.excused == 3 and held.local == pytest.approx(1e-4 / ours.std(), rel=0.3)
    wrong = ours.copy()
    wrong[200, 3] += 0.003
    assert not found(wrong).passed, "what is no more than a slip of one element at one position is told"
    assert not found(reference).passed, "the error is in this very stage"
    ours[[10, 20, 30, 40], 0] += 0.02
    assert not found(ours).passed, "7 of 300"
    ours[[10, 20, 30, 40], 0] = np.nan
    assert not found(ours).passed


def test_a_stage_that_is_near_but_does_not_follow_fails() -> None:
    ours = ARRAY + np.float32(0.002)
    assert measure("a", ours, Whole({"a": ARRAY}), STRICT).passed
    assert not measure("a", ours, Whole({"a": ARRAY}), STRICT, ARRAY).passed


def test_a_scaled_array_fails_though_its_cosine_is_one() -> None:
    found = measure("a", ARRAY * np.float32(0.276), Whole({"a": ARRAY}), STRICT)
    assert found.cosine == pytest.approx(1)
    assert not found.passed


def test_nan_on_our_side_fails() -> None:
    ours = ARRAY.copy()
    ours[0, 0] = np.nan
    assert not measure("a", ours, Whole({"a": ARRAY}), STRICT).passed
    assert not measure("a", ours, Whole({"a": ARRAY}), Tolerance(rms=1.0)).passed


def test_shapes_must_agree() -> None:
    with pytest.raises(ParityError, match=r"a has shape \(10, 6\) on our side, \(20, 6\)"):
        measure("a", ARRAY[:10], Whole({"a": ARRAY}), STRICT)


def test_a_reference_with_nan_is_no_reference() -> None:
    reference = ARRAY.copy()
    reference[3, 3] = np.inf
    with pytest.raises(ParityError, match="not finite"):
        measure("a", ARRAY, Whole({"a": reference}), STRICT)


def test_the_root_mean_square_forgives_one_outlier() -> None:
    ours = ARRAY.copy()
    ours[7, 3] += 0.5
    assert measure("a", ours, Whole({"a": ARRAY}), Tolerance(rms=0.05)).passed
    assert not measure("a", ARRAY * np.float32(1.2), Whole({"a": ARRAY}), Tolerance(rms=0.05)).passed


def test_stored_samples_are_compared_at_their_places(tmp_path: Path) -> None:
    rows, columns = np.array([0, 5, 19]), np.array([1, 4])
    np.savez(
        tmp_path / "stored.npz",
        **{
            "tokens": np.array([1, 2]),
            "a:shape": np.array(ARRAY.shape),
            "a:rows": rows,
            "a:columns": columns,
            "a:values": ARRAY[np.ix_(rows, columns)],
            "a:moments": np.array([ARRAY.mean(), ARRAY.std(), np.abs(ARRAY).max(), 0.0]),
        },
    )
    stored = Stored(str(tmp_path / "stored.npz"))
    assert (stored.names(), stored.tokens) == (["a"], [1, 2])
    assert measure("a", ARRAY, stored, STRICT).passed
    ours = ARRAY.copy()
    ours[5, 4] += 1
    assert not measure("a", ours, stored, STRICT).passed


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ParityError, match=r"text\.npz is not a file of reference stages"):
        Stored(str(tmp_path / "text.npz"))
    np.savez(tmp_path / "other.npz", a=ARRAY)
    with pytest.raises(ParityError, match=r"other\.npz"):
        Stored(str(tmp_path / "other.npz"))

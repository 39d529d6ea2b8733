from __future__ import annotations

import numpy as np
import pytest

from max_whisper.parity.faults import FAULTS
from max_whisper.parity.measure import TOLERANCES, ParityError, Whole
from max_whisper.parity.numpy_model import NumpyWhisper
from max_whisper.parity.stages import Table, compare_stages, order, parent
from support.random_checkpoint import DIMS, tiny_checkpoint

TOKENS = [50257, 10, 20, 30, 40]


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    mel = np.random.default_rng(2).standard_normal((80, 3000)).astype(np.float32)
    return NumpyWhisper(tiny_checkpoint()).stages(mel, TOKENS)


def compared(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray], fed: list[int] = TOKENS) -> Table:
    return compare_stages(ours, Whole(reference), DIMS, TOLERANCES["float32"], (fed, TOKENS))


def test_every_stage_of_the_model_is_in_the_order(reference: dict[str, np.ndarray]) -> None:
    assert {name for name in order(DIMS) if name != "tokens"} == set(reference)


def test_equal_sides_pass(reference: dict[str, np.ndarray]) -> None:
    table = compared(reference, reference)
    assert table.passed and table.first is None and not table.absent
    assert f"all {len(order(DIMS))} stages within tolerance" in table.verdict


def test_the_earliest_divergence_is_named_not_the_greatest(reference: dict[str, np.ndarray]) -> None:
    ours = dict(reference)
    ours["encoder.blocks.1.key"] = ours["encoder.blocks.1.key"] * np.float32(1.01)
    ours["encoder.blocks.1"] = ours["encoder.blocks.1"] + np.float32(100)
    ours["ln_post"] = ours["ln_post"] * np.float32(9)
    table = compared(ours, reference)
    assert table.first is not None and table.first.name == "encoder.blocks.1.key"
    assert "encoder.blocks.1.key (inside encoder.blocks.1)" in table.verdict
    shown = [row.name for row in table.shown()]
    assert "encoder.blocks.1.query" in shown and "encoder.blocks.0.query" not in shown


def test_other_tokens_end_the_table_there(reference: dict[str, np.ndarray]) -> None:
    table = compared(reference, reference, [50257, 11, *TOKENS[2:]])
    assert table.first is not None and table.first.name == "tokens"
    assert "at position 1" in table.verdict and "11" in table.verdict
    assert table.rows[-1].name == "tokens"


def test_a_wrong_shape_is_a_divergence(reference: dict[str, np.ndarray]) -> None:
    table = compared({**reference, "conv2": reference["conv2"][:750]}, reference)
    assert table.first is not None and table.first.name == "conv2"
    assert "(750, 8)" in table.verdict


def test_what_one_side_lacks_is_told(reference: dict[str, np.ndarray]) -> None:
    ours = {name: array for name, array in reference.items() if name != "conv1.linear"}
    assert compared(ours, reference).absent == ("conv1.linear",)
    with pytest.raises(ParityError, match="no stage in common"):
        compared({}, reference)


def test_details_know_what_they_are_inside_of() -> None:
    assert parent("decoder.blocks.11.cross_query") == "decoder.blocks.11"
    assert parent("conv1.linear") == "conv1"
    assert parent("decoder.blocks.11") is parent("ln_post") is parent("cross.0.key") is None


def test_faults_name_stages_that_exist() -> None:
    places = {*order(DIMS), "reference", "windows"}
    assert {fault.stage for fault in FAULTS.values()} <= places
    assert len(FAULTS) == 10

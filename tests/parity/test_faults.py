"""The lab can see: each planted fault is named where it is, and a sound model has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from max_whisper.audio import load_audio
from max_whisper.checkpoints import Checkpoint
from max_whisper.parity.audit import audit
from max_whisper.parity.engine import Engine
from max_whisper.parity.faults import FAULTS, Fault
from max_whisper.parity.measure import TOLERANCES, Stored
from max_whisper.parity.numpy_model import NumpyWhisper
from max_whisper.parity.stages import Table, compare_stages, parent
from max_whisper.parity.transcripts import stopped_early

from . import golden, reference

Load = Callable[[str], Checkpoint]
STAGED = [fault for fault in FAULTS.values() if not (fault.reference or fault.first_window_only)]


@pytest.fixture(scope="module")
def examined(checkpoint: Load, first_window: np.ndarray) -> Callable[[Fault | None], Table]:
    """The table of stages of tiny.en on MAX against openai-whisper's, with a fault planted."""

    def examine(fault: Fault | None) -> Table:
        stored = Stored(str(reference.DIRECTORY / "tiny.en.npz"))
        engine = Engine("max", checkpoint("tiny.en"), fault=fault)
        try:
            stages, fed = engine.stages(first_window, stored.tokens)
        finally:
            engine.close()
        follows = NumpyWhisper(checkpoint("tiny.en")).follow(first_window, fed, stages)
        tokens = fed, stored.tokens
        return compare_stages(stages, stored, engine.dims, TOLERANCES["float32"], tokens, follows)

    return examine


def test_a_sound_model_has_no_fault(examined: Callable[[Fault | None], Table]) -> None:
    table = examined(None)
    assert table.passed, table.verdict
    assert len(table.rows) > 60


@pytest.mark.parametrize("fault", STAGED, ids=lambda fault: fault.name)
def test_a_planted_fault_is_named(examined: Callable[[Fault | None], Table], fault: Fault) -> None:
    table = examined(fault)
    assert table.first is not None
    assert fault.stage in (table.first.name, parent(table.first.name)), table.verdict
    assert table.first.name in table.verdict


def test_noise_is_not_taken_for_a_reference(checkpoint: Load, first_window: np.ndarray) -> None:
    tokens = reference.load("tiny.en").tokens
    sound = NumpyWhisper(checkpoint("tiny.en")).stages(first_window, tokens)
    assert audit(sound, checkpoint("tiny.en"), first_window, tokens) is None
    plant = FAULTS["noise-reference"].reference
    assert plant is not None
    assert "ln_post" in str(audit(plant(sound), checkpoint("tiny.en"), first_window, tokens))


@pytest.mark.parametrize("change", ["cropped", "other features", "nan", "other tokens"])
def test_a_reference_of_something_else_is_refused(
    checkpoint: Load, first_window: np.ndarray, change: str
) -> None:
    tokens = reference.load("tiny.en").tokens
    stages = NumpyWhisper(checkpoint("tiny.en")).stages(first_window, tokens)
    if change == "cropped":
        stages["ln_post"] = stages["ln_post"][:750]
    elif change == "other features":
        stages["mel"] = stages["mel"] + np.float32(0.01)
    elif change == "nan":
        stages["conv2"] = np.full_like(stages["conv2"], np.nan)
    else:
        tokens = tokens[:-1]
    assert audit(stages, checkpoint("tiny.en"), first_window, tokens)


def test_a_transcript_of_one_window_is_said_to_stop(checkpoint: Load) -> None:
    stored: dict[str, Any] = golden.load("tiny.en", "prompts_en")
    run = stored["runs"]["greedy"]
    engine = Engine("max", checkpoint("tiny.en"), fault=FAULTS["one-window"])
    samples = load_audio(str(golden.audio("prompts_en")))
    found = engine.transcribe(samples, {"language": "en", **run["options"]})
    told = stopped_early(run, found)
    assert told is not None and f"{run['segments'][-1]['end']:.2f} s" in told
    assert stopped_early(run, run) is None


def test_an_error_at_one_position_is_named_at_its_stage(checkpoint: Load, first_window: np.ndarray) -> None:
    """One position in fifty may be off, but only by what comes from the stages before."""
    stored = Stored(str(reference.DIRECTORY / "tiny.en.npz"))
    model = NumpyWhisper(checkpoint("tiny.en"))
    stages = model.stages(first_window, stored.tokens)
    name = "encoder.blocks.2"
    stages[name][700, 5] += np.float32(1e-3) * stages[name].std()
    follows = model.follow(first_window, stored.tokens, stages)
    tokens = stored.tokens, stored.tokens
    table = compare_stages(stages, stored, model.dims, TOLERANCES["float32"], tokens, follows)
    assert table.first is not None and table.first.name == name, table.verdict
    assert "from our own stage before it" in table.verdict

"""The lab's two commands on real weights and real speech, with the references that need nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper.checkpoints import Checkpoint
from max_whisper.errors import OptionError
from max_whisper.parity.cli import run
from max_whisper.parity.measure import ParityError
from max_whisper.parity.processes import Setting, Workshop

from . import golden, reference

AUDIO = str(golden.audio("jfk"))
STORED = str(reference.DIRECTORY / "tiny.en.npz")


def command(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """A command's exit status, its JSON and its page."""
    files = {kind: tmp_path / f"result.{kind}" for kind in ("json", "html")}
    given = [*arguments, "--model", "tiny.en", "--language", "en"]
    status = run([*given, "--json", str(files["json"]), "--html", str(files["html"])])
    return status, json.loads(files["json"].read_text()), files["html"].read_text()


def test_inspect_finds_nothing(tmp_path: Path) -> None:
    status, result, page = command(tmp_path, "inspect", AUDIO, "--reference", STORED)
    assert status == 0 and result["passed"], result["verdict"]
    assert {"mel", "conv1", "ln_post", "cross.3.value", "logits"} <= {
        s["name"] for s in result["table"]["stages"]
    }
    assert "Parity" in page


def test_inspect_names_a_fault_and_shows_what_is_inside(tmp_path: Path) -> None:
    status, result, page = command(
        tmp_path, "inspect", AUDIO, "--reference", STORED, "--backend", "numpy", "--plant", "no-mask"
    )
    assert status == 1
    assert result["first"] == "decoder.blocks.0.attention"
    assert '<span class="inside">decoder.blocks.0.attention</span>' in page


def test_compare_says_the_same_tokens(tmp_path: Path) -> None:
    status, result, page = command(
        tmp_path, "compare", AUDIO, "--backends", "max,numpy", "--transcript", "And so my fellow Americans"
    )
    assert status == 0, result["verdict"]
    ours = result["backends"][0]
    assert (ours["backend"], ours["same_tokens"], ours["word_error_rate"], ours["length_ratio"]) == (
        "max",
        True,
        0,
        1,
    )
    assert ours["transcript_error_rate"] > 1 and ours["seconds"] > 0 and ours["peak_bytes"] > 1 << 26
    assert "same tokens as numpy" in page


def test_compare_with_a_reference_that_is_not_there(tmp_path: Path) -> None:
    status, result, page = command(
        tmp_path,
        "compare",
        AUDIO,
        "--backends",
        "max,openai-cpu",
        "--reference-python",
        str(tmp_path / "python"),
    )
    assert status == 1
    ours, missing = result["backends"]
    assert "cannot be run" in missing["error"] and missing["text"] is None
    assert ours["text"] and ours["word_error_rate"] is None
    assert "cannot be run" in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["compare", AUDIO, "--backends", "max,whisperx"], "whisperx"),
        (["compare", AUDIO, "--backends", "max", "--reference", "numpy"], "not among the backends"),
        (["inspect", AUDIO, "--reference", "faster-whisper"], "gives no stages"),
        (["inspect", AUDIO, "--plant", "gremlins"], "the faults are mel-scale"),
        (["inspect", AUDIO, "--reference", STORED, "--start", "12"], "no window starts at 12 s"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        run([*arguments, "--model", "tiny.en"])


def test_a_window_of_the_wrong_shape_is_an_error_of_that_engine(
    checkpoint: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    workshop = Workshop(tmp_path, checkpoint("tiny.en"), Setting())
    with pytest.raises(ParityError, match=r"numpy: ValueError: .*\(750,384\)"):
        workshop.stages("numpy", np.zeros((80, 1500), np.float32), [50257])


def test_memory_that_runs_out_is_told(checkpoint: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, checkpoint("base"), Setting(memory_limit=450 << 20))
    with pytest.raises(ParityError, match=r"numpy: out of memory|numpy crashed"):
        workshop.transcribe("numpy", np.zeros(16000, np.float32), {"language": "en"})

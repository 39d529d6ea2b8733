from __future__ import annotations

import numpy as np
from benchmarks.memory import report, write_repeated

from max_whisper.audio import load_audio


def test_a_recording_is_repeated_up_to_a_length(tmp_path) -> None:
    part = np.arange(-300, 300, dtype=np.float32) * 32 / 32768
    write_repeated(part, 0.1, tmp_path / "long.wav")
    assert np.array_equal(load_audio(tmp_path / "long.wav"), np.tile(part, 3)[:1600])


def test_the_report_has_a_row_for_each_process() -> None:
    row = {"model": "base", "precision": "int8", "way": "batch_size=8", "minutes": 60.0}
    found = {"loaded_mb": 190.2, "peak_mb": 480.6}
    text = report([{**row, **found}], "A machine.")
    assert text.startswith("# Memory\n\nA machine.\n\n| model |")
    assert text.endswith("\n| base | int8 | batch_size=8 | 60 | 190 | 481 |\n")

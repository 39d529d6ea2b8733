"""What the kernels' benchmark measures, and how it tells it; nothing is timed."""

from __future__ import annotations

import json
import stat

import numpy as np
import pytest
from benchmarks import peak
from benchmarks.environments import BenchmarkError
from benchmarks.kernels import Measured, encoder_shapes, fastest, report

LIMITS = {"float32": 4e9, "bfloat16": 8e9, "int8": 16e9, "memory": 2e9}


def measured(what, precision, limit, share, model="base"):
    return Measured(model, precision, what, (1, 2, 3), round(share * LIMITS[limit]), limit, seconds=1.0)


def test_a_blocks_products_are_those_of_the_encoder() -> None:
    shapes = {shape.name: shape for shape in encoder_shapes(512, 8)}
    linear = [shape for shape in shapes.values() if shape.op != "encoder_attention"]
    assert sum(shape.operations for shape in linear) == 2 * 1500 * 12 * 512**2
    assert shapes["attention"].operations == 4 * 1500**2 * 512
    assert shapes["MLP up, GELU"].kind == ("linear", "gelu", 0)
    assert {shape.rows for shape in shapes.values()} == {1500}


def test_the_report_names_what_is_furthest_and_what_is_missed() -> None:
    rows = [
        measured("attention", "int8", "int8", 0.3),
        measured("MLP down", "int8", "int8", 0.69),
        measured("MLP up", "int8", "int8", 0.71),
        measured("output head", "int8", "memory", 0.5),
        measured("MLP down", "bfloat16", "bfloat16", 0.66, model="tiny"),
    ]
    text = report(rows, LIMITS, ["A machine."])
    assert text.startswith(
        "# Kernels\n\nA machine.\n\nPeak: float32 4 GFLOP/s, bfloat16 8 GFLOP/s, int8 16 GOP/s"
    )
    assert "| MLP down | 1 x 2 x 3 | int8 | 1000.00 | 11 G/s | int8 | 69 % |" in text
    assert "| output head | 1 x 2 x 3 | int8 | 1000.00 | 1 GB/s | memory | 50 % |" in text
    assert "int8: furthest from its limit is attention of base, at 30 %." in text
    assert "Below 70 % of the peak (reading: 70 %): base MLP down (69 %), base output head (50 %)." in text
    assert "Below 65 % of the peak (reading: 70 %): no linear layer." in text
    assert text.index("## base") < text.index("## tiny")


def test_several_calls_count_as_one_turn_over_all_of_them() -> None:
    calls = []
    seconds = fastest([lambda: calls.append(0), lambda: calls.append(1)], patience=0.0)
    assert calls == [0, 1] * 3
    assert 0 < seconds < 1


def test_the_best_of_several_runs_counts(tmp_path) -> None:
    runs = [dict.fromkeys(LIMITS, 3.0) | {"int8": 5.0}, dict.fromkeys(LIMITS, 4.0)]
    for number, run in enumerate(runs):
        (tmp_path / f"{number}.json").write_text(json.dumps(run))
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nset -- {tmp_path}/*.json\ncat "$1" && rm "$1"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert peak.measure_peak(program, 2, times=2) == dict.fromkeys(LIMITS, 4.0) | {"int8": 5.0}
    with pytest.raises(BenchmarkError, match="failed"):
        peak.measure_peak(program, 2, times=2)


def test_the_peak_is_measured_with_the_kernels_own_products(tmp_path) -> None:
    """Compiles the program, as it depends on the kernels' sources; what it measures is not looked at."""
    found = peak.measure_peak(peak.build_peak(tmp_path), threads=1, times=1)
    assert set(found) == set(LIMITS)
    assert all(np.isfinite(rate) and rate > 0 for rate in found.values())

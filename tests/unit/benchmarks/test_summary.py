from __future__ import annotations

import pytest
from benchmarks.engines import ENGINES, choose_engines
from benchmarks.summary import median_of_known, summarise
from benchmarks.tables import furthest_from_limits, report, table

OURS = {"name": "max-whisper-int8", "title": "max-whisper int8", "ours": True}
OTHER = {"name": "other", "title": "other", "ours": False}
AUDIO = {"jfk": 11.0, "long": 60.0, "many": 100.0}


def stages(encode):
    shares = {"encode_share": 0.5, "forward_share": 0.3, "rest_share": 0.2}
    return {**shares, "encode": encode, "step": 0.002, "fractions": {"encode": 0.7, "step": None}}


def a_round(seconds, first=0.1, marked=None):
    run = {"seconds": seconds, "first_text": first, "text": "x", "stages": marked}
    return {
        "runs": {"long": dict(run, seconds=10 * seconds), "jfk": run},
        "loaded": seconds,
        "first_transcript": 2 * seconds,
        "peak_mb": 100 * seconds,
    }


def a_whole(seconds):
    return {"loaded": seconds, "first_transcript": seconds, "process": seconds, "peak_mb": 10 * seconds}


def figures(engine=OTHER, model="base", beam=1, seconds=(3.0, 1.0, 2.0), **more):
    rounds = [a_round(s, **more) for s in seconds]
    return summarise(engine, model, beam, rounds, [a_whole(s) for s in seconds], AUDIO, {"long": 2.5})


def test_figures_are_medians_of_the_rounds() -> None:
    found = figures()
    long = found.clip("long")
    assert [clip.clip for clip in found.clips] == ["jfk", "long"]
    assert long is not None
    assert (long.seconds, long.fastest, long.slowest) == (20, 10, 30)
    assert (long.rtfx, long.wer, long.first_text) == (3, 2.5, 0.1)
    assert found.clip("jfk").wer is None
    assert found.clip("many") is None
    assert (found.rounds, found.start, found.process) == (3, 2, 2)
    assert (found.peak_mb, found.process_mb) == (300, 30)
    assert found.first_transcript == pytest.approx(2.5)  # of 6, 2, 4 and 3, 1, 2


def test_stages_are_those_of_the_median_round() -> None:
    rounds = [a_round(s, marked=stages(s)) for s in (3.0, 1.0, 2.0)]
    found = summarise(OURS, "base", 1, rounds, [a_whole(1.0)], AUDIO, {})
    assert found.clip("jfk").stages["encode"] == 2.0


def test_an_unknown_value_leaves_no_median() -> None:
    assert median_of_known([1.0, 4.0, 2.0]) == 2
    assert median_of_known([1.0, None, 2.0]) is None
    assert median_of_known([]) is None


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_the_report_has_a_part_for_each_model_and_beam() -> None:
    text = report(
        [figures(), figures(OURS, first=None, marked=stages(0.25)), figures(beam=5)], ["A machine."]
    )
    assert text.startswith("# Benchmarks\n\nA machine.\n\n## base, greedy\n\n")
    assert "\n## base, beam 5\n" in text
    assert "| other | 2.00 | 5.5 | - | 0.10 | 20.00 | 3.0 | 2.50 | 0.10 |" in text
    assert "| **max-whisper int8** | 2.00 | 5.5 | - | - | 20.00 | 3.0 | 2.50 | - |" in text
    assert "| other | 2.00 | 2.50 | 2.00 | 30 | 300 |" in text
    assert "| **max-whisper int8** | jfk | 50 % | 30 % | 20 % | 250 | 70 % | 2.00 | - |" in text
    assert text.count("a step, ms") == 1
    assert text.count("\nFurthest from its limit: max-whisper int8: a window of jfk, 70 %.\n") == 1


def test_the_furthest_from_its_limit_is_the_least_used_stage_of_each_engine() -> None:
    slow = {**stages(0.25), "fractions": {"encode": 0.9, "step": 0.4}}
    both = [figures(OURS, marked=stages(0.25)), figures(dict(OURS, title="ours too"), marked=slow)]
    told = "max-whisper int8: a window of jfk, 70 %; ours too: a step of the decoder of jfk, 40 %"
    assert furthest_from_limits(both) == f"Furthest from its limit: {told}."
    assert furthest_from_limits([figures()]) == ""


def test_engines_are_chosen_by_name_or_by_its_beginning() -> None:
    assert choose_engines([]) == list(ENGINES)
    assert [e.name for e in choose_engines(["faster-whisper-int8"])] == ["faster-whisper-int8"]
    assert [e.name for e in choose_engines(["openvino", "max-whisper-int8"])] == [
        *("max-whisper-int8", "openvino-float32", "openvino-bfloat16", "openvino-int8")
    ]
    with pytest.raises(ValueError, match="no engine 'whisperx'"):
        choose_engines(["openvino", "whisperx"])

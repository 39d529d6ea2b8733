from __future__ import annotations

import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from max_whisper.errors import OutputError
from max_whisper.parity.comparing import Report
from max_whisper.parity.inspection import Inspection, Picture, Plan
from max_whisper.parity.measure import TOLERANCES, Whole
from max_whisper.parity.numpy_model import NumpyWhisper
from max_whisper.parity.pictures import png
from max_whisper.parity.report import comparison_page, inspection_page, write_page
from max_whisper.parity.stages import compare_stages
from max_whisper.parity.transcripts import compare_transcripts
from support.random_checkpoint import DIMS, tiny_checkpoint

VOID = ("meta",)


class Checker(HTMLParser):
    """Fails at a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(page: str) -> str:
    """The page's text; nothing in the page may come from elsewhere."""
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    for link in re.findall(r'(?:href|src|url\()\s*=?\s*"?([^">)]*)', page):
        assert link.startswith("data:"), link
    assert "<script" not in page and "@import" not in page
    return " ".join(checker.text)


def transcript(text: str) -> dict[str, object]:
    return {"text": text, "language": "en", "segments": []}


def test_a_picture_is_a_png_of_its_values() -> None:
    data = png(np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 2.0]]))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    pixels = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(2, 10)
    assert (pixels[:, 0] == 0).all()
    first, second = pixels[:, 1:].reshape(2, 3, 3)
    assert (first[0] == second[1]).all() and (first[1] == second[0]).all()
    assert (second[2] == first[1]).all(), "beyond 1 is 1"
    assert first[1].sum() > first[2].sum() > first[0].sum()


def test_a_comparison_with_a_failed_engine() -> None:
    good = compare_transcripts("max", transcript("<b>not</b>"), transcript("<b>knot</b>"), language="en")
    bad = type(good)("openai-gpu", error="this PyTorch sees no GPU & stops")
    page = comparison_page(
        Report("openai-cpu", (good, bad), "<b>not</b>", 0.0, True, 1.0), "a & b", "run <it>"
    )
    text = checked(page)
    assert "this PyTorch sees no GPU & stops" in text
    assert "Divergence" in text and "run <it>" in text
    assert "<b>not" not in page.replace("<b>Divergence", ""), "text is escaped"


def test_an_inspection_shows_the_first_divergence() -> None:
    mel = np.random.default_rng(2).standard_normal((80, 3000)).astype(np.float32)
    reference = NumpyWhisper(tiny_checkpoint()).stages(mel, [50257, 1, 2])
    ours = {**reference, "encoder.blocks.1.out": reference["encoder.blocks.1.out"] * np.float32(2)}
    table = compare_stages(ours, Whole(reference), DIMS, TOLERANCES["float32"])
    weights = np.random.default_rng(3).random((3, 1500)).astype(np.float32)
    inspection = Inspection(
        Plan(),
        "encoder.blocks.1.out",
        table.verdict,
        table,
        picture=Picture(weights, weights, ("<|sot|>", " a", " b"), 7.3),
    )
    page = inspection_page(inspection, "title", "command")
    text = checked(page)
    assert "the first stage that diverges is encoder.blocks.1.out (inside encoder.blocks.1)" in text
    assert page.count("<image") == 2
    assert "<|sot|>" in text and "seconds" in text
    row = re.search(r'<tr class="bad first"><td><span class="inside">([^<]*)', page)
    assert row is not None and row.group(1) == "encoder.blocks.1.out"


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_page(tmp_path / "none" / "page.html", "page")

"""Advanced SubStation Alpha, read back by hand and by FFmpeg."""

from __future__ import annotations

import re

import av
import pytest

from max_whisper.subtitles import Cue, highlighted
from max_whisper.writers import get_writer, to_ass

WORDS = (
    {"word": "And", "start": 1.004, "end": 1.3},
    {"word": " so,", "start": 1.3, "end": 1.5},
    {"word": "\nmy", "start": 2.0, "end": 2.115},
    {"word": " fellow", "start": 2.115, "end": 2.5},
)


def events(text):
    """(start, end, name, text) of each event."""
    lines = [line for line in text.splitlines() if line.startswith("Dialogue: ")]
    return [tuple(line.removeprefix("Dialogue: ").split(",", 9)[i] for i in (1, 2, 4, 9)) for line in lines]


def test_each_word_has_its_time_in_hundredths():
    (event,) = events(to_ass([Cue(1.004, 3.0, words=WORDS)]))
    start, end, name, text = event
    assert (start, end, name) == ("0:00:01.00", "0:00:03.00", "")
    assert text == r"{\k30}And {\k20}so,\N{\k50}{\k12}my {\k38}fellow"
    # summed up, the last word ends when it is said to, whatever was rounded before
    assert 100 + sum(map(int, re.findall(r"\\k(\d+)", text))) == 250


def test_long_times_and_speakers():
    cue = Cue(36000.0, 36001.999, "Hello", speaker="Ann, Mary")
    assert events(to_ass([cue])) == [("10:00:00.00", "10:00:02.00", "Ann; Mary", "Ann, Mary: Hello")]


def test_a_marked_word_is_underlined():
    shown = [text for *_, text in events(to_ass(highlighted([Cue(1.004, 2.5, words=WORDS)])))]
    assert shown[0] == r"{\u1}And{\u0} so,\Nmy fellow"
    assert shown[2:4] == [r"And so,\Nmy fellow", r"And so,\N{\u1}my{\u0} fellow"]


def test_text_is_no_tag():
    (event,) = events(to_ass([Cue(0, 1, r"{\b1}a\Nb")]))
    assert event[3] == "\\{\\\u2060b1\\}a\\\u2060Nb"


@pytest.mark.parametrize("worded", [True, False])
def test_ffmpeg_reads_it(worded, tmp_path):
    segments = []
    for n, text in enumerate((" One, two", " {three}")):
        words = [{"word": f" {w}", "start": n + 0.25, "end": n + 0.5} for w in text.split()]
        segment = {"start": n + 0.25, "end": n + 0.5, "text": text, "speaker": "Ann"}
        segments.append({**segment, "words": words} if worded else segment)
    get_writer("ass", tmp_path)({"segments": segments, "language": "en"}, "talk.wav")
    with av.open(str(tmp_path / "talk.ass")) as container:
        stream = container.streams.subtitles[0]
        found = []
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            for shown in packet.decode():
                text = shown.ass.decode().split(",", 8)
                plain = re.sub(r"\{\\k\d+\}", "", text[8])
                found.append((float(packet.pts * packet.time_base), text[3], plain))
    assert found == [(0.25, "Ann", "Ann: One, two"), (1.25, "Ann", r"Ann: \{three\}")]

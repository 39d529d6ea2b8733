"""Each option of the command in each mode: it works, or is refused, or is said to have no effect.

Every flag has a line in a table below that says what it changes. It is then tried with each kind of
input, each output format, with and without word times and voice activity, around a model that
writes down what it is asked; and, where it is about transcription, what it changes in the results
of a model of random tables. A flag without a line fails.
"""

from __future__ import annotations

import functools
import io
import itertools
import sys
import types
import warnings
import wave
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import max_whisper
from max_whisper import cli
from max_whisper.audio import as_channels, as_samples
from max_whisper.command.flags import FLAGS
from max_whisper.errors import MaxWhisperWarning
from max_whisper.model import Whisper
from max_whisper.transcribe import prepared, vad
from max_whisper.transcribe.segments import Language, Segment, Transcript, Word
from max_whisper.writers import FORMATS, SUBTITLES
from support.mock_runtime import MockRuntime
from support.tiny import MULTILINGUAL, TEXT, TinyModel, TinyTokenizer

# What a flag changes: how the model is loaded, what it is asked (and, of that, what JSON alone has), what
# subtitles look like, what is printed, which files there are; or nothing, which its help must say.
LOADING, MODEL, DETAIL, LAYOUT = "loading", "model", "detail", "layout"
SCREEN, PLACE, NOTHING = "screen", "place", "nothing"
WORDS, FAST, VAD = ("--word_timestamps", "True"), ("--word_timestamps", "fast"), ("--vad_filter", "True")


@dataclass(frozen=True)
class Effect:
    """What a flag does: a value other than its default, what that changes, and what it needs."""

    value: str
    changes: str
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # what makes it visible in a result; it works without


EFFECTS = {
    "--model": Effect("tiny", LOADING),
    "--model_dir": Effect("weights", LOADING),
    "--device": Effect("cpu", LOADING),
    "--precision": Effect("int8", LOADING),
    "--threads": Effect("3", LOADING),
    "--fp16": Effect("False", NOTHING),
    "--output_dir": Effect("out", PLACE),
    "--output_format": Effect("srt", PLACE),
    "--verbose": Effect("False", SCREEN),
    "--task": Effect("translate", MODEL),
    "--language": Effect("French", MODEL),
    "--initial_prompt": Effect("names", MODEL),
    "--carry_initial_prompt": Effect(
        "True", MODEL, ("--initial_prompt", "names"), beside=("--condition_on_previous_text", "False")
    ),
    "--condition_on_previous_text": Effect("False", MODEL),
    "--prompt_reset_on_temperature": Effect("0.1", MODEL, beside=("--temperature", "0.3")),
    "--hotwords": Effect("abc", MODEL),
    "--prefix": Effect("a", MODEL),
    "--multichannel": Effect("True", MODEL),
    "--speaker_names": Effect("Ann,Bob", MODEL, ("--multichannel", "True")),
    "--clip_timestamps": Effect("1,9", MODEL),
    "--languages": Effect("fr,de", MODEL),
    "--language_detection_segments": Effect("2", MODEL, beside=("--language_detection_threshold", "None")),
    "--language_detection_threshold": Effect("1", MODEL, ("--language_detection_segments", "2")),
    "--multilingual": Effect("True", MODEL),
    "--batch_size": Effect("2", MODEL),
    "--chunk_length": Effect("5", MODEL, ("--batch_size", "2")),
    "--temperature": Effect("0.5", MODEL),
    "--temperature_increment_on_fallback": Effect("None", MODEL, beside=("--logprob_threshold", "0")),
    "--best_of": Effect("2", MODEL, beside=("--temperature", "0.5")),
    "--beam_size": Effect("2", MODEL),
    "--patience": Effect("0.2", MODEL),
    "--length_penalty": Effect("0", MODEL, beside=("--temperature", "1")),
    "--repetition_penalty": Effect("3", MODEL),
    "--no_repeat_ngram_size": Effect("1", MODEL),
    "--suppress_tokens": Effect("3,4,5", MODEL),
    "--compression_ratio_threshold": Effect("0.1", MODEL),
    "--logprob_threshold": Effect("0", MODEL),
    "--no_speech_threshold": Effect("0", MODEL, beside=("--logprob_threshold", "None")),
    "--token_logprobs": Effect("True", DETAIL),
    "--word_timestamps": Effect("True", MODEL),
    "--prepend_punctuations": Effect(".", MODEL, WORDS),
    "--append_punctuations": Effect(")", MODEL, WORDS),
    "--highlight_words": Effect("True", LAYOUT, WORDS),
    "--max_line_width": Effect("20", LAYOUT, WORDS),
    "--max_line_count": Effect("1", LAYOUT, (*WORDS, "--max_line_width", "20")),
    "--max_words_per_line": Effect("2", LAYOUT, WORDS),
    "--break_at_clauses": Effect("True", LAYOUT, WORDS),
    "--max_chars_per_second": Effect("5", LAYOUT, WORDS),
    "--min_cue_duration": Effect("6", LAYOUT, WORDS),
    "--max_cue_duration": Effect("2", LAYOUT, WORDS),
    "--min_cue_gap": Effect("0.1", LAYOUT, WORDS),
    "--hallucination_silence_threshold": Effect("0.5", MODEL, WORDS),
    "--vad_filter": Effect("True", MODEL),
    "--vad_threshold": Effect("0.8", MODEL, VAD),
    "--vad_min_speech_duration_ms": Effect("900", MODEL, VAD),
    "--vad_max_speech_duration_s": Effect("5", MODEL, VAD, beside=WORDS),
    "--vad_min_silence_duration_ms": Effect("500", MODEL, VAD),
    "--vad_speech_pad_ms": Effect("60", MODEL, VAD),
}
#: Pairs of which only one has a say: the other is said to have none.
OVERRULED = {
    "--max_words_per_line": ("--max_line_width", "20"),
}
ALL_FLAGS = {flag.name: flag for flags in FLAGS.values() for flag in flags}
INPUTS = {"one": ["a.wav"], "several": ["a.wav", "b.wav"], "directory": ["folder"], "standard input": ["-"]}
RECORDINGS = {"one": 1, "several": 2, "directory": 2, "standard input": 1}


def test_every_flag_has_its_line() -> None:
    assert not ALL_FLAGS.keys() - EFFECTS.keys(), "say in EFFECTS what these flags change"
    assert not EFFECTS.keys() - ALL_FLAGS.keys(), "there are no such flags"
    for name, effect in EFFECTS.items():
        assert ALL_FLAGS[name].type(effect.value) != ALL_FLAGS[name].default, name
        assert (effect.changes == NOTHING) == ("without effect" in ALL_FLAGS[name].help), name


# The command, around a model that writes down what it is asked.


@dataclass
class Outcome:
    """What a run did."""

    status: int
    printed: str
    told: str
    files: dict[str, bytes]
    loaded: dict[str, object] = field(default_factory=dict)
    asked: list[object] = field(default_factory=list)


SAID = (" The door of the old house stood open, and", " nobody came out of it.")


class Model:
    """Says the same of every recording, in two segments, as words if it is asked to."""

    is_multilingual = True

    def __init__(self) -> None:
        self.loaded: dict[str, object] = {}
        self.asked: list[object] = []

    def load(self, name, progress, **arguments):
        self.loaded = {"name": name, **arguments}
        return self

    def events(self, audio, options):
        (as_channels if options.multichannel else as_samples)(audio)
        self.asked.append(options)
        yield Language("de", 0.9)
        segments = []
        for number, text in enumerate(
            (" The door of the old house stood open, and", " nobody came out of it.")
        ):
            start = 4.0 * number
            step = 3.95 / len(text.split())
            words = tuple(
                Word(f" {word}", start + n * step, start + (n + 1) * step, 0.9)
                for n, word in enumerate(text.split())
            )
            segments.append(
                Segment(
                    *(number, 0, start, start + 3.95, text, (1,), 0.0, -0.5, 1.0, 0.1),
                    words=words if options.word_timestamps else None,
                    token_logprobs=(-0.5,) if options.token_logprobs else None,
                )
            )
            yield segments[-1]
        return Transcript("".join(s.text for s in segments), tuple(segments), "de")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two stereo recordings, and the same two in a folder of their own."""
    root = tmp_path_factory.mktemp("recordings")
    (root / "folder").mkdir()
    for name in ("a.wav", "b.wav"):
        for path in (root / name, root / "folder" / name):
            with wave.open(str(path), "wb") as file:
                file.setnchannels(2)
                file.setsampwidth(2)
                file.setframerate(16000)
                file.writeframes(np.arange(2000, dtype="<i2").tobytes())
    return root


@pytest.fixture(scope="module")
def command(folder):
    """Runs the command in that folder; runs of the same arguments are done once."""

    @functools.cache
    def run(*arguments: str) -> Outcome:
        model, printed, told = Model(), io.StringIO(), io.StringIO()
        stdin = types.SimpleNamespace(
            buffer=io.BytesIO((folder / "a.wav").read_bytes()), isatty=lambda: False
        )
        before = set(folder.rglob("*"))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(told):
            patch.chdir(folder)
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(max_whisper, "load_model", model.load)
            patch.setattr(vad, "find_spec", lambda name: name)
            try:
                status = cli.main(list(arguments))
            except SystemExit as end:
                status = int(end.code or 0)
        new = sorted(set(folder.rglob("*")) - before, reverse=True)
        files = {str(path.relative_to(folder)): path.read_bytes() for path in new if path.is_file()}
        for path in new:
            path.rmdir() if path.is_dir() else path.unlink()
        return Outcome(status, printed.getvalue(), told.getvalue(), files, model.loaded, model.asked)

    return run


def changed(name: str, before: Outcome, after: Outcome, count: int) -> bool:
    """Whether a flag has the effect that it should have, on each of so many recordings."""
    assert before.status == after.status == 0, after.told
    assert len(before.asked) == len(after.asked) == count
    match EFFECTS[name].changes:
        case "loading":
            return before.loaded != after.loaded
        case "detail":
            assert all(old != new for old, new in zip(before.asked, after.asked, strict=True))
            detailed = [path for path in before.files if path.endswith(".json")]
            return bool(detailed) and all(before.files[path] != after.files[path] for path in detailed)
        case "model":
            return all(old != new for old, new in zip(before.asked, after.asked, strict=True))
        case "layout":
            subtitles = [path for path in before.files if Path(path).suffix[1:] in SUBTITLES]
            return bool(subtitles) and all(before.files[path] != after.files[path] for path in subtitles)
        case "screen":
            return before.printed != after.printed
        case "place":
            return before.files.keys() != after.files.keys()
        case _:
            return before.files != after.files or before.printed != after.printed


def verdict(name: str, given: tuple[str, ...], command, count: int) -> str:
    """What becomes of a flag beside others that are given: works, refused, told, or ignored."""
    after = command(*given, name, EFFECTS[name].value)
    if after.status == 2:
        assert name.removeprefix("--") in after.told, after.told
        assert not after.asked and not after.files and not after.loaded
        return "refused"
    if f"{name} has no effect" in after.told:
        return "told"
    return "works" if changed(name, command(*given), after, count) else "ignored"


def modes(name: str) -> list[tuple[str, tuple[str, ...], tuple[str, ...], bool]]:
    """(input, output format, word times, voice activity) in all pairs that matter to a flag."""
    formats = [("-f", output) for output in (*FORMATS, "all")] if name != "--output_format" else [()]
    words = [(), WORDS, FAST] if name != "--word_timestamps" else [()]
    voice = [False, True] if name != "--vad_filter" else [False]
    found = [(kind, formats[0], *rest) for kind, *rest in itertools.product(INPUTS, words, voice)]
    found += [("one", output, *rest) for output, *rest in itertools.product(formats[1:], words, voice)]
    return found


@pytest.mark.parametrize("name", ALL_FLAGS)
def test_it_works_or_is_refused_in_every_mode(name: str, command) -> None:
    check_every_mode(name, EFFECTS[name], command)


def test_fast_words_work_in_every_mode(command, monkeypatch) -> None:
    monkeypatch.setitem(EFFECTS, "--word_timestamps", Effect("fast", MODEL))
    check_every_mode("--word_timestamps", EFFECTS["--word_timestamps"], command)


def check_every_mode(name: str, effect: Effect, command) -> None:
    needs = list(zip(effect.needs[::2], effect.needs[1::2]))
    others = [item for pair in needs if pair not in (WORDS, VAD) for item in pair]
    seen = set()
    for kind, output, words, voice in modes(name):
        # Word times and voice activity are modes; a flag is tried without them, too.
        given = [*(others if words or WORDS not in needs else ()), *words]
        given += VAD if voice else ()
        has_needs = (bool(words) or WORDS not in needs) and (voice or VAD not in needs)
        found = verdict(name, (*INPUTS[kind], *output, *given), command, RECORDINGS[kind])
        shown_in = {LAYOUT: (*SUBTITLES, "all"), DETAIL: ("json", "all")}.get(effect.changes)
        shown = shown_in is None or output[1] in shown_in
        if effect.changes == NOTHING:
            wanted = {"ignored"}
        else:
            wanted = {"works"} if has_needs and shown else {"refused", "told"}
        assert found in wanted, f"{name} {effect.value} is {found}: {kind}, {output}, {given}"
        seen.add(found)
    assert effect.changes == NOTHING or "works" in seen


@pytest.mark.parametrize("name", [name for name, effect in EFFECTS.items() if effect.needs])
def test_without_what_it_needs_it_is_refused_or_told(name: str, command) -> None:
    needs = EFFECTS[name].needs
    for left_out in needs[::2]:
        # What needs the left out one itself is left out, too.
        given = [
            item
            for needed, value in zip(needs[::2], needs[1::2])
            if needed != left_out and left_out not in EFFECTS[needed].needs
            for item in (needed, value)
        ]
        assert verdict(name, ("a.wav", *given), command, 1) in {"refused", "told"}, left_out


@pytest.mark.parametrize("name", OVERRULED)
def test_what_is_overruled_is_told(name: str, command) -> None:
    given = (*WORDS, *OVERRULED[name])
    assert verdict(name, ("a.wav", *given), command, 1) == "told"
    assert verdict(name, ("a.wav", *given, "--break_at_clauses", "True"), command, 1) == "works"


def test_a_flag_that_does_nothing_is_noticed(command, monkeypatch) -> None:
    monkeypatch.setitem(EFFECTS, "--fp16", Effect("False", SCREEN))
    assert verdict("--fp16", ("a.wav",), command, 1) == "ignored"


# A model of random tables, over which each option of transcription changes the result.


MARKS = (".", ",", "'", "-")


class Tokenizer(TinyTokenizer):
    """Marks are words of their own, as they are for Whisper's tokenizers."""

    def split_to_word_tokens(self, ids):
        words: list[list[int]] = []
        for i, before in zip(ids, [None, *ids]):
            letter, last = self.decode([i]), self.decode([before]) if before is not None else "."
            starts = letter in ("", " ") or last in MARKS or (letter in MARKS and last != " ")
            if not words or starts:
                words.append([])
            words[-1].append(i)
        return [self.decode(word) for word in words], words


class Runtime(MockRuntime):
    """With attention that jumps: long words and silences."""

    def scores(self, queries, heads, window):
        chance = np.random.default_rng(queries.shape[1])
        return chance.standard_normal((len(heads), queries.shape[1], 1500)).astype(np.float32)


#: With a pause, uncertain, short, and long: (start, end, probability).
SPEECH = ((0, 3, 0.9), (4.9, 7, 0.9), (10, 13, 0.7), (20, 20.5, 0.9), (27, 38, 0.9))


class Tables(Whisper):
    """The model."""

    def __init__(self) -> None:
        tables = TinyModel(5, end=2.0, silence=-2.0)
        for before, after in ("s ", " .", ".a", "a,", ",z"):
            tables.last[TEXT.index(before), TEXT.index(after)] += 9
        self.runtime = Runtime(MULTILINGUAL, tables.logits, tables.features)
        super().__init__(self.runtime, None)

    def tokenizer(self, language=None, task=None):
        return Tokenizer(language or "en", task or "transcribe")


@pytest.fixture(scope="module")
def transcribed():
    """The transcript that options lead to, and how many tokens were computed for it."""
    seconds = np.arange(16000 * 40) / 16000
    samples = (np.stack([np.sin(seconds * 900), np.sin(seconds * 700)]) * 0.5).astype(np.float32)

    def probabilities(audio):
        windows = len(audio) // vad.WINDOW
        at = np.arange(windows) * vad.WINDOW / 16000
        found = np.full(windows, 0.05)
        for start, end, probability in (
            (0, 3, 0.9),
            (4, 7, 0.9),
            (10, 13, 0.7),
            (20, 20.5, 0.9),
            (30, 38, 0.9),
        ):
            found[(at >= start) & (at < end)] = probability
        return found.tolist()

    def whole_numbers(audio, n_mels, padding):
        heard = audio if audio.ndim == 1 else audio.mean(axis=0)
        frames = (len(heard) + padding) // 160
        key = round(abs(float(heard[1])) * 1000)
        return np.tile((np.arange(frames) * key % 7).astype(np.float32), (MULTILINGUAL.n_mels, 1))

    @functools.cache
    def run(*arguments: str):
        model = Tables()
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", MaxWhisperWarning)
            patch.setattr(vad, "find_spec", lambda name: name)
            patch.setattr(vad, "silero", probabilities)
            patch.setattr(prepared, "silero", probabilities)
            patch.setattr(prepared, "read_log_mel", whole_numbers)
            args = vars(cli.transcribe_parser().parse_args(["a.wav", *arguments]))
            options = cli._Run(args).options
            events = model.events(samples if options.multichannel else samples[0], options)
            while True:
                try:
                    next(events)
                except StopIteration as end:
                    return end.value.as_dict(), sum(len(batch.tokens) for batch in model.runtime.passes)

    return run


TRANSCRIBED = [name for name, effect in EFFECTS.items() if effect.changes in (MODEL, DETAIL)]


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_it_changes_what_is_transcribed(name: str, transcribed) -> None:
    check_results(name, EFFECTS[name].needs, transcribed)
    effect = EFFECTS[name]
    if WORDS[0] in effect.needs:
        at = effect.needs.index(WORDS[0])
        check_results(name, (*effect.needs[:at], *FAST, *effect.needs[at + 2 :]), transcribed)


def check_results(name: str, needs: tuple[str, ...], transcribed) -> None:
    effect = EFFECTS[name]
    quick = () if name in ("--beam_size", "--patience") else ("--beam_size", "None")
    given = (*quick, *needs, *effect.beside)
    assert transcribed(*given) != transcribed(*given, name, effect.value)
    if name in ("--temperature", "--multichannel", "--word_timestamps", "--vad_filter", "--token_logprobs"):
        assert transcribed(*given)[0] != transcribed(*given, name, effect.value)[0]


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_fast_words_are_there_whatever_else_is_asked_for(name: str, transcribed) -> None:
    effect = EFFECTS[name]
    if name in ("--word_timestamps", "--no_speech_threshold"):
        return  # the one is what this is about, the other leaves no text here
    quick = () if name in ("--beam_size", "--patience") else ("--beam_size", "None")
    needs = () if WORDS[0] in effect.needs else effect.needs
    given = (*quick, *needs, *effect.beside, name, effect.value)
    fast, usual = (transcribed(*given, *way)[0]["segments"] for way in (FAST, WORDS))
    assert fast != usual
    words = [word for segment in fast for word in segment["words"]]
    assert words and all(0 < word["probability"] <= 1 and word["start"] <= word["end"] for word in words)

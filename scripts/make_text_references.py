"""Writes tests/data/text: what openai-whisper makes of texts, results and samples.

Run it where openai-whisper is installed: ``python scripts/make_text_references.py``.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from whisper.audio import load_audio, log_mel_spectrogram, mel_filters
from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer
from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer
from whisper.utils import format_timestamp, get_writer

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"

TEXTS = [
    "",
    " ",
    " Hello, world! It's 3.14 — a naïve café; don't you think we'll, I've, he'd?",
    "  leading  spaces\n\n\tand tabs ",
    ' HE\'LL say: "No." (laughs) [MUSIC] ♪♪ ♬',
    "다람쥐 헌 쳇바퀴에 타고파",
    "私は猫です。名前はまだ無い。",
    "ไม่มีอะไร ລາວ ၁၂၃ ١٢٣ हिन्दी",
    " 😀👩‍👩‍👧 a1b2 x² ½ Ⅷ",
]
SETTINGS = [
    {"multilingual": False},
    {"multilingual": True},
    {"multilingual": True, "language": "de", "task": "translate"},
    {"multilingual": True, "language": "Japanese"},
    {"multilingual": True, "num_languages": 100, "language": "yue", "task": "transcribe"},
]
NUMBERS = (
    "eot sot translate transcribe sot_lm sot_prev no_speech no_timestamps timestamp_begin sot_sequence "
    "sot_sequence_including_notimestamps non_speech_tokens language task num_languages"
)
SENTENCES = [
    "He's kinda slow, 'cause I dunno... um, we'll see, y'all gonna wait? Let's go!",
    "Mr. Park visited St. Louis on the twenty-first; it cost two hundred and five dollars and ten cents.",
    "[noise] The colour of aluminium (grey) is centred; I've organised 1,000,000 of them - 50% off!",
    "one oh one, double oh seven, three point one four, minus five degrees, nineteen ninety nine",
    "Ich heiße Jörg — und Sie? Ça va, naïveté! 私は猫です。 हिन्दी",
    "",
]


def tokenizers() -> dict[str, object]:
    """Special tokens, encodings and word splits."""
    chance = random.Random(0)
    signs = "\"#()*+/:;<=>@[\\]^_`{|}~-',.!?¿♪♫」…—"
    groups = [
        chance.choice(["", " "]) + "".join(chance.choices(signs, k=chance.randint(1, 8))) for _ in range(60)
    ]
    cases = []
    for setting in SETTINGS:
        tokenizer = get_tokenizer(**setting)
        case: dict[str, object] = {name: getattr(tokenizer, name) for name in NUMBERS.split()}
        case["all_language_tokens"] = sorted(tokenizer.all_language_tokens)
        case["special_tokens"] = len(tokenizer.special_tokens)
        case["encoded"] = [tokenizer.encode(text) for text in [*TEXTS, *groups]]
        size = tokenizer.encoding.n_vocab
        sequences = [[chance.randrange(size) for _ in range(8)] for _ in range(40)]
        sequences += [tokenizer.encode(text) for text in TEXTS]
        case["sequences"] = [
            {
                "ids": ids,
                "text": tokenizer.decode(ids),
                "timed": tokenizer.decode_with_timestamps(ids),
                "words": tokenizer.split_to_word_tokens(ids),
                "spaces": tokenizer.split_tokens_on_spaces(ids),
                "characters": tokenizer.split_tokens_on_unicode(ids),
            }
            for ids in sequences
        ]
        cases.append({"setting": setting, **case})
    languages = {"codes": list(LANGUAGES.items()), "names": TO_LANGUAGE_CODE}
    return {"texts": [*TEXTS, *groups], "languages": languages, "cases": cases}


def results() -> list[dict[str, object]]:
    """Results of many shapes: none, one and several segments, words, pauses, odd characters."""
    chance = random.Random(1)
    vocabulary = [
        " And so, ",
        " my",
        " fellow",
        " Americans:",
        " ask",
        " not --> what",
        " your",
        " naïve",
        " country",
        "'s",
        " 50",
        " %",
        ".",
        "\tdo",
    ]
    made = []
    for count, worded in itertools.product((0, 1, 4), (False, True)):
        time, segments = 0.0, []
        for index in range(count):
            words = []
            for _ in range(chance.randint(1, 12)):
                start = time + chance.choice([0.0, 0.02, 0.3, 4.5])
                time = start + chance.choice([0.0, 0.14, 0.5])
                word = chance.choice(vocabulary)
                words.append(
                    {"word": word, "start": round(start, 2), "end": round(time, 2), "probability": 0.5}
                )
            text = "".join(str(word["word"]) for word in words)
            segment = {
                "id": index,
                "seek": 0,
                "start": words[0]["start"],
                "end": words[-1]["end"],
                "text": text,
            }
            segment |= {"tokens": [1, 2], "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.1}
            segment |= {"no_speech_prob": 1e-12}
            segments.append(segment | ({"words": words} if worded else {}))
        made.append(
            {"text": "".join(str(s["text"]) for s in segments), "segments": segments, "language": "en"}
        )
    made[3]["segments"][0]["start"] = 3599.9996  # type: ignore[index]
    made[2]["segments"][0]["end"] = 7322.04  # type: ignore[index]
    return made


def writers() -> dict[str, object]:
    """What is written for each result under each layout."""
    layouts: list[dict[str, object]] = [
        {},
        {"highlight_words": True},
        {"max_line_width": 14},
        {"max_line_width": 14, "max_line_count": 2},
        {"max_line_width": 14, "max_line_count": 1, "highlight_words": True},
        {"max_line_count": 1},
        {"max_words_per_line": 3},
        {"max_words_per_line": 1, "highlight_words": True},
        {"max_line_width": 0, "max_words_per_line": 50},
    ]
    written = []
    with tempfile.TemporaryDirectory() as folder:
        for index, result in enumerate(results()):
            for layout in layouts:
                get_writer("all", folder)(result, "some/talk.v1.flac", dict(layout))
                files = {path.suffix[1:]: path.read_text("utf-8") for path in Path(folder).glob("talk.v1.*")}
                if layout:
                    files = {name: files[name] for name in ("srt", "vtt")}
                written.append({"result": index, "layout": layout, "files": files})
    times = [0, 0.0004, 0.9996, 59.9995, 61.5, 3599.9994, 3600, 360000.25]
    stamps = [[t, format_timestamp(t), format_timestamp(t, True, ",")] for t in times]
    return {"results": results(), "written": written, "timestamps": stamps}


def normalizers() -> dict[str, list[str]]:
    """Normalized sentences."""
    english, basic, bare = EnglishTextNormalizer(), BasicTextNormalizer(), BasicTextNormalizer(True, True)
    return {
        "sentences": SENTENCES,
        "english": [english(text) for text in SENTENCES],
        "basic": [basic(text) for text in SENTENCES],
        "letters": [bare(text) for text in SENTENCES],
    }


def spectrograms() -> dict[str, np.ndarray]:
    """Every sixteenth frame of the spectrograms of the smallest recordings, and the filters."""
    arrays = {f"filters_{bands}": mel_filters("cpu", bands).numpy() for bands in (80, 128)}
    for name, path in {"jfk": DATA / "jfk.flac", "librivox-0880": DATA / "librivox" / "0880.flac"}.items():
        samples = load_audio(str(path))
        arrays[f"{name}_samples"] = (samples * 32768).astype(np.int16)[::16]
        for bands in (80, 128):
            for padding in (0, 480000):
                mel = log_mel_spectrogram(samples, bands, padding=padding).numpy()
                arrays[f"{name}_{bands}_{padding}"] = mel[:, : len(samples) // 160 : 16]
    return arrays


def main() -> None:
    """Writes all four files."""
    torch.set_num_threads(1)
    folder = DATA / "text"
    folder.mkdir(exist_ok=True)
    for name, make in {"tokenizer": tokenizers, "writers": writers, "normalizers": normalizers}.items():
        text = json.dumps(make(), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")
    np.savez_compressed(folder / "mel.npz", **spectrograms())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

"""The tokenizer over a vocabulary of single bytes; openai-whisper's own is in tests/parity."""

from __future__ import annotations

import subprocess
import sys

import pytest

from max_whisper.errors import OptionError, TokenizerError
from max_whisper.tokenizer import LANGUAGES, Tokenizer, Vocabulary, get_tokenizer, language_code

BYTES = {bytes([value]): value for value in range(256)}


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary({**BYTES, b"--": 256, b" --": 257, "é".encode(): 258})


def test_special_tokens_follow_the_ranks(vocabulary: Vocabulary) -> None:
    tokenizer = Tokenizer(vocabulary, "de", "translate")
    assert tokenizer.eot == 259
    assert tokenizer.sot == 260
    assert tokenizer.language_token == 263
    assert tokenizer.translate == 261 + 99
    assert tokenizer.timestamp_begin + 1501 == vocabulary.n_vocab
    assert tokenizer.sot_sequence == (260, 263, 360)
    assert tokenizer.sot_sequence_including_notimestamps == (260, 263, 360, tokenizer.no_timestamps)


def test_pairs_are_merged_as_tiktoken_merges_them(vocabulary: Vocabulary) -> None:
    for text in ("--", " --", "---", "----", " -", "!--!", " ", "é--"):
        assert vocabulary.encode(text) == vocabulary.encoding.encode(text)


def test_text_comes_back(vocabulary: Vocabulary) -> None:
    tokenizer = Tokenizer(vocabulary)
    text = " café -- 私"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    stamped = [*tokenizer.encode("a"), tokenizer.timestamp_begin + 54, tokenizer.eot]
    assert tokenizer.decode(stamped) == "a<|endoftext|>"
    assert tokenizer.decode_with_timestamps(stamped) == "a<|1.08|><|endoftext|>"


def test_bytes_that_are_no_character(vocabulary: Vocabulary) -> None:
    tokenizer = Tokenizer(vocabulary)
    assert tokenizer.decode(list("私".encode())[:2]) == "\ufffd"
    assert tokenizer.split_tokens_on_unicode(list("私".encode())) == (["私"], [list("私".encode())])
    # openai-whisper fails with an IndexError here; the byte too many is left without a word
    assert tokenizer.split_tokens_on_unicode([97, 0xE7, 0xA7]) == (["a", "\ufffd"], [[97], [0xE7]])


def test_ids_outside_the_vocabulary(vocabulary: Vocabulary) -> None:
    with pytest.raises(KeyError, match="-1"):
        vocabulary.decode([-1])
    with pytest.raises(KeyError, match=str(vocabulary.n_vocab)):
        vocabulary.decode([vocabulary.n_vocab])


def test_damaged_vocabularies() -> None:
    for damaged in ({**BYTES, b"ab": 7}, {b"ab": 256, **BYTES}):
        with pytest.raises(TokenizerError, match="not 0, 1, 2 and so on, in order"):
            Vocabulary(damaged).decode([7])
    with pytest.raises(TokenizerError, match="languages"):
        Vocabulary(BYTES, num_languages=101)


def test_languages(vocabulary: Vocabulary) -> None:
    assert len(LANGUAGES) == 100
    assert language_code("German") == "de"
    assert language_code("HAITIAN CREOLE") == "ht"
    assert language_code("yue") == "yue"
    with pytest.raises(OptionError, match="'klingon'"):
        language_code("klingon")
    with pytest.raises(OptionError, match="cantonese"):
        Tokenizer(vocabulary, "yue")
    with pytest.raises(OptionError, match="'summarize'"):
        Tokenizer(vocabulary, "en", "summarize")
    with pytest.raises(KeyError, match="'endoftext'"):
        Tokenizer(vocabulary).to_language_token("endoftext")
    with pytest.raises(ValueError, match="without a language"):
        _ = Tokenizer(vocabulary).language_token


def test_get_tokenizer_with_a_vocabulary(vocabulary: Vocabulary) -> None:
    tokenizer = get_tokenizer(True, language="French", vocabulary=vocabulary)
    assert (tokenizer.language, tokenizer.task) == ("fr", "transcribe")
    with pytest.raises(TokenizerError, match="not of the model"):
        get_tokenizer(False, vocabulary=vocabulary)
    with pytest.raises(OptionError, match="'klingon'"):
        get_tokenizer(True, language="klingon", vocabulary=vocabulary)


def test_decoding_does_not_load_tiktoken() -> None:
    code = (
        "import sys; from max_whisper.tokenizer import *;"
        "v = Vocabulary({bytes([i]): i for i in range(256)});"
        "Tokenizer(v).non_speech_tokens, v.decode([97]), v.encode(' ');"
        "sys.exit('tiktoken' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

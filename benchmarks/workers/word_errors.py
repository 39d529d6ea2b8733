"""Word errors by piece: ``word_errors.py RECORDINGS.json RESULT.json``.

Each recording is [language, texts of its pieces, what was heard]; each result is [errors, words] of
every piece. The words of all pieces are aligned with all that was heard; a word too much counts
where the next word belongs. English goes through Whisper's normaliser for English, other languages
through the one for any language, which also takes accents off: lists of texts leave them out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jiwer
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

english, basic = EnglishTextNormalizer(), BasicTextNormalizer(remove_diacritics=True)


def errors(language: str, texts: list[str], heard: str) -> list[list[int]]:
    normal = english if language == "en" else basic
    pieces = [normal(text).split() for text in texts]
    owners = [number for number, words in enumerate(pieces) for _ in words]
    reference = " ".join(word for words in pieces for word in words)
    found = [[0, len(words)] for words in pieces]
    for chunk in jiwer.process_words(reference, " ".join(normal(heard).split())).alignments[0]:
        if chunk.type == "insert":
            owner = owners[min(chunk.ref_start_idx, len(owners) - 1)]
            found[owner][0] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for owner in owners[chunk.ref_start_idx : chunk.ref_end_idx]:
                found[owner][0] += 1
    return found


recordings = json.loads(Path(sys.argv[1]).read_text())
Path(sys.argv[2]).write_text(json.dumps([errors(*recording) for recording in recordings]))

"""Word error rates: ``score.py PAIRS.json RESULT.json``; pairs of [references, texts] -> percent.

Each pair is two lists; their errors are counted together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer

pairs = json.loads(Path(sys.argv[1]).read_text())
normal = EnglishTextNormalizer()
rates = [
    100 * jiwer.wer([normal(r) for r in references], [normal(t) for t in texts])
    for references, texts in pairs
]
Path(sys.argv[2]).write_text(json.dumps(rates))

"""Lets these tests find the benchmarks, which lie beside the package and are no part of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

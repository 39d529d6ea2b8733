"""Writes openai-whisper's ``.pt`` file: ``save_openai.py ARRAYS.npz TARGET``."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

arrays, target = sys.argv[1:]
with np.load(arrays, allow_pickle=False) as stored:
    dims = json.loads(str(stored["__dims__"]))
    tensors = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "__dims__"}
torch.save({"dims": dims, "model_state_dict": tensors}, target)

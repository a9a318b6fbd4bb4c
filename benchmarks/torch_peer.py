"""torch as a contestant."""

from __future__ import annotations

from typing import Any


def torch_of_one_pool() -> Any:
    """torch, with as many threads as the environment says."""
    import os

    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.set_grad_enabled(False)
    return torch

from __future__ import annotations

import numpy as np


def ensure_rng(rng: int | np.random.RandomState | None = None) -> np.random.RandomState:
    """A generator: ``rng`` itself, one with that seed, or numpy's global one for ``None``."""
    if rng is None:
        return np.random.mtrand._rand
    return np.random.RandomState(rng) if isinstance(rng, (int, np.integer)) else rng

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Writes files into a folder of its own: text by name, and for a pair (width, height) a picture of that size."""

    def write(files: dict) -> Path:
        for number, (name, content) in enumerate(files.items()):
            path = tmp_path / 'data' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, tuple):
                rng = np.random.default_rng(number)
                Image.fromarray(rng.integers(0, 255, (*content[::-1], 3), dtype=np.uint8)).save(path)
            else:
                path.write_text(content, encoding='utf-8')
        return tmp_path / 'data'

    return write

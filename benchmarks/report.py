"""What the benchmarks of single parts write with ``--out FILE``: rows that ``parts.py`` gathers."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path

PACKAGES = ('torch', 'torchvision', 'transformers', 'numpy', 'mmengine', 'mmcv-lite', 'pycocotools', 'hotcoco')


def row(
    part: str, ours: float, unit: str, peer: float | None = None, peer_name: str = '', better: str = 'less'
) -> dict:
    """One figure of ours, and the same of whom it is compared with.

    ``better`` is ``'less'`` or ``'more'``; ``times_as_good`` is above 1 where ours is the better one.
    """
    result = dict(part=part, ours=ours, unit=unit)
    if peer is not None:
        times = peer / ours if better == 'less' else ours / peer
        result |= dict(peer=peer, peer_name=peer_name, times_as_good=times)
    return result


def versions() -> dict[str, str]:
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def save(path: Path | str | None, rows: list[dict], **about) -> None:
    """Write a report, if there is somewhere to write it."""
    if path is not None:
        Path(path).write_text(json.dumps(dict(versions=versions(), rows=rows, **about), indent=1))

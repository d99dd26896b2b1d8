"""Where weights lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from mmdet.utils.downloads import cached_path, digest_in_name, file_name, is_url


def cache_folder() -> Path:
    """Where downloads are kept: as torch does, in ``hub/checkpoints`` of ``$TORCH_HOME`` or ``~/.cache/torch``."""
    home = os.environ.get('TORCH_HOME') or os.path.join(
        os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'torch'
    )
    return Path(home) / 'hub' / 'checkpoints'


def cached_file(url: str) -> Path | None:
    """The file of an address, if it is here already."""
    if not is_url(url):
        return None
    folder = cache_folder()
    places = [cached_path(url, folder)]
    if digest_in_name(file_name(url)):
        places.append(folder / file_name(url))
    return next((place for place in places if place.is_file()), None)

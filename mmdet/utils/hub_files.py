"""Files of the Hugging Face hub, by ``hf://owner/repo`` and ``hf://owner/repo/file``.

`huggingface_hub` keeps them in its own cache and knows mirrors (``HF_ENDPOINT``) and tokens (``HF_TOKEN``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmdet.errors import UserImportError, UserValueError
from mmdet.utils.downloads import DownloadError, is_offline

SCHEME = 'hf://'
_WHOLE = ('*.safetensors', '*.safetensors.index.json', '*.json')


def split_address(address: str) -> tuple[str, str | None, str | None]:
    """``hf://owner/repo[@revision][/file]`` as repository, file and revision.

    Raises:
        UserValueError: it is no such address.
    """
    found = re.fullmatch(r'hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?', address)
    if found is None or '..' in (found[3] or '').split('/'):
        raise UserValueError(f'{address!r} is no address of the hub: write hf://owner/repo or hf://owner/repo/file')
    return found[1], found[3], found[2]


def hub_path(address: str) -> Path:
    """The local file of an address; the folder of its weights and ``config.json`` where it names a repository.

    Raises:
        DownloadError: there is none, or no connection, with the folder of the cache.
        UserImportError: `huggingface_hub` is not installed.
    """
    repo, file, revision = split_address(address)
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError:
        raise UserImportError(f'{address} needs huggingface_hub: pip install huggingface_hub') from None
    options: dict[str, Any] = dict(repo_id=repo, revision=revision, local_files_only=is_offline())
    try:
        if file is not None:
            return Path(huggingface_hub.hf_hub_download(filename=file, **options))
        return Path(huggingface_hub.snapshot_download(allow_patterns=list(_WHOLE), **options))
    except Exception as error:  # whatever its client raises: no connection, no such repository, no permission
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f'{address} cannot be had: {first[:200]}; without a connection, it must lie in {constants.HF_HUB_CACHE}, '
            'or give a local file or folder'
        ) from error

"""Tokenizers of language models, from folders and the cache of this machine."""

from __future__ import annotations

import os
from typing import Any

from mmdet.errors import UserFileError, UserImportError


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder, or of a model of the Hugging Face hub that is in the cache. Nothing is downloaded.

    Raises:
        UserImportError: ``transformers`` is not installed.
        UserFileError: there is no such folder, nor is such a model in the cache; with how to get it.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UserImportError(
            f'the tokenizer {name!r} needs the package transformers, which cannot be imported ({error}): '
            'pip install transformers'
        ) from error
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError) as error:
        if os.path.isdir(name):
            raise UserFileError(f'the folder {name!r} holds no tokenizer that transformers reads: {error}') from error
        raise UserFileError(
            f'the tokenizer {name!r} is neither a folder nor in the cache of the Hugging Face hub. '
            f'`hf download {name}` gets it, on a machine with a network; its folder, copied here, is as good a name'
        ) from error

"""Language models of `transformers`, from folders and the cache of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mmdet.errors import UserFileError, UserImportError

DOWNLOAD = 'MMDET_HUB_DOWNLOAD'
"""Set to 1 in the environment, it lets files that are missing be fetched from the Hugging Face hub."""

# What is read of a model, and the files that it may lie in
PARTS = {
    'its settings': ('config.json',),
    'its words': ('tokenizer.json', 'vocab.txt'),
    'its weights': ('model.safetensors', 'pytorch_model.bin', 'model.safetensors.index.json'),
}


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserImportError(
            f'texts are read by transformers, which cannot be imported ({error}): pip install transformers'
        ) from error
    return transformers


@contextlib.contextmanager
def _in_memory_and_quiet() -> Iterator[None]:
    """Weights that are read lie in memory, whatever is built around them; what is left out is not worth a message."""
    logging = _transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with torch.device('cpu'):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _from_hub(load: Callable, name: str, parts: Sequence[str], **options: Any) -> Any:
    """``load(name)`` from a folder or from the hub's cache.

    Args:
        name: Of a folder, or of a model on the Hugging Face hub.
        parts: What of ``PARTS`` it reads.

    Raises:
        FileNotFoundError: if something is missing, with how to get it. Nothing is fetched without being asked for.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        missing = [part for part in parts if not any((folder / file).is_file() for file in PARTS[part])]
        if missing:
            files = ', '.join(f'{part} ({" or ".join(PARTS[part])})' for part in missing)
            raise UserFileError(f'the folder {str(folder)!r} of the language model lacks {files}')
        with _in_memory_and_quiet():
            return load(str(folder), local_files_only=True, **options)
    if name.startswith(('.', '/', '~')) or folder.is_absolute() or name.count('/') > 1:
        raise UserFileError(f'there is no folder {name!r} with a language model')
    allowed = os.environ.get(DOWNLOAD) == '1'
    try:
        with _in_memory_and_quiet():
            return load(name, local_files_only=not allowed, **options)
    except (OSError, ValueError) as error:
        raise UserFileError(_how_to_get(name, parts, allowed)) from error


def _how_to_get(name: str, parts: Sequence[str], allowed: bool) -> str:
    from huggingface_hub import constants, try_to_load_from_cache

    lost = [part for part in parts if not any(isinstance(try_to_load_from_cache(name, f), str) for f in PARTS[part])]
    where = f'the cache of the Hugging Face hub ({constants.HF_HUB_CACHE})'
    lacks = f'{where} lacks {" and ".join(lost)}' if lost else f'{where} has it, but it cannot be read'
    offline = ' Unset HF_HUB_OFFLINE for both.' if constants.HF_HUB_OFFLINE else ''
    tried = 'it could not be downloaded' if allowed else f'{DOWNLOAD}=1 lets it be downloaded when the model is built'
    return (
        f'the language model {name!r} is no folder, and {lacks}. Where there is a connection, "hf download {name}" '
        f'fetches it; {tried}.{offline} A folder with its files may stand as the name, as in '
        f"language_model=dict(type='BertModel', name='/path/to/{name.rpartition('/')[2]}')"
    )


def load_tokenizer(name: str) -> Any:
    """The words of a model, and how texts are cut into them; ``name`` as in :func:`_from_hub`."""
    return _from_hub(_transformers().AutoTokenizer.from_pretrained, name, ['its words'])


def load_bert_config(name: str) -> Any:
    """The settings of a BERT: widths, layers and rates."""
    return _from_hub(_transformers().BertConfig.from_pretrained, name, ['its settings'])


def load_bert(name: str, **options: Any) -> Any:
    """A BERT with its weights, in memory."""
    return _from_hub(_transformers().BertModel.from_pretrained, name, ['its weights'], **options)

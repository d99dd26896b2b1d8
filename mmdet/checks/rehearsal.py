"""A few samples of every data set of a config, made as training makes them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from mmdet.datasets.walk import build, data_info, full_init
from mmdet.errors import UserError

SAMPLES = 8


def rehearse(cfg: Any, loader: str, read_images: bool) -> Iterator[tuple[str | None, str]]:
    """Build the data set of a loader and take samples through its wrappers and pipelines.

    Args:
        loader: ``'train_dataloader'`` and so on.
        read_images: Otherwise the data set is built, but no sample is made.

    Yields:
        ``(path of the picture or None, what stopped it)``.
    """
    try:
        dataset = build(copy.deepcopy(cfg[loader]['dataset']))
        full_init(dataset)
        count = len(dataset)
    except Exception as error:
        yield None, sentence_of(error)
        return
    if not read_images:
        return
    for index in np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).round().astype(int)).tolist():
        try:
            dataset[index]
        except Exception as error:
            yield _path(dataset, index), sentence_of(error)


def sentence_of(error: Exception) -> str:
    """One line of an error; the type is named where the message is not written for people."""
    text = ' '.join(str(error).split())
    return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'


def _path(dataset: Any, index: int) -> str | None:
    try:
        path = data_info(dataset, index).get('img_path')
    except Exception:
        return None
    return path if isinstance(path, str) else None

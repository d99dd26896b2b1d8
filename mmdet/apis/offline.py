"""Data sets of a config and results of them, for tools that need no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmdet.config.sections import innermost_datasets
from mmdet.datasets import walk
from mmdet.errors import UserKeyError, UserValueError
from mmdet.evaluation.metrics.pictures import marks_of, picture_key


def dataset_of(cfg: Any, loader: str = 'test_dataloader', test_mode: bool | None = None) -> Any:
    """The data set of a loader, a list of them as one.

    Args:
        test_mode: Set in each data set inside; by default as the config has it.
    """
    if cfg.get(loader) is None:
        raise UserKeyError(f'the config has no {loader}')
    if test_mode is not None:
        for _, dataset in innermost_datasets(cfg, loader):
            dataset['test_mode'] = test_mode
    return walk.build(cfg[loader]['dataset'])


def load_results(path: str) -> list[dict]:
    """What ``tools/test.py --out`` wrote; the file runs no code."""
    from mmdet.utils.tensor_files import read_results

    return read_results(path)


def match_results(dataset: Any, results: Sequence[dict], whole: bool = False) -> list[tuple[int, dict]]:
    """For each result the index of its sample, in the order of the results.

    Results are told by annotation file, id and path of their picture. Those that know no more than an id, or lie in
    other folders now, are told by what is left as long as that is different for each picture, and else by their order.

    Args:
        whole: Every picture must have a result.

    Raises:
        UserValueError: a result belongs to no picture, or to more than one.
    """
    pictures = [_picture(dataset, index) for index in range(len(dataset))]
    if whole and len(results) < (count := len(set(map(picture_key, pictures)))):
        raise UserValueError(f'The dataset has {count} images, but there are results for {len(results)}.')
    marks = [marks_of(result) for result in results]
    for key in KEYS:
        index_of: dict[Any, int] = {}
        whole: dict[Any, Any] = {}
        clear = all(whole.setdefault(key(each), picture_key(each)) == picture_key(each) for each in pictures)
        for index, picture in enumerate(pictures):
            index_of.setdefault(key(picture), index)
        if clear and all(key(mark) in index_of for mark in marks):
            return [(index_of[key(mark)], result) for mark, result in zip(marks, results, strict=True)]
    ids = [picture['img_id'] for picture in pictures]
    if [mark.get('img_id') for mark in marks] == ids:
        return list(enumerate(results))
    for mark in marks:
        if mark.get('img_id') not in ids:
            raise UserValueError(
                f'The results have an image {mark.get("img_id")!r} that the test dataset does not have.'
            )
    raise UserValueError(
        'The test dataset has several images of one id, and the results do not say which of them they are of. '
        'Write them again with tools/test.py --out.'
    )


def _picture(dataset: Any, index: int) -> dict[str, Any]:
    leaf, inner = walk.locate(dataset, index)
    info = leaf.get_data_info(inner)
    found = dict(img_id=info.get('img_id'), img_path=info.get('img_path'), ann_file=str(getattr(leaf, 'ann_file', '')))
    if hasattr(dataset, 'get_dataset_source'):
        found['dataset_index'] = dataset.get_dataset_source(index)
    return found


def _name(mark: dict) -> str | None:
    return Path(mark['img_path']).name if mark.get('img_path') else None


KEYS: tuple[Callable[[dict], Any], ...] = (
    picture_key,
    lambda mark: (mark.get('dataset_index'), mark.get('img_id'), _name(mark)),
    lambda mark: (mark.get('img_id'), _name(mark)),
    lambda mark: mark.get('img_id'),
)

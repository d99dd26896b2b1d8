"""Through the wrappers of a data set: to the data sets inside, to their transforms, to the sample behind an index.

A wrapper is whatever holds data sets under ``datasets`` or ``dataset``: those of this package, of mmengine and of torch
(``ConcatDataset`` and ``Subset``), the slice that ``num_batch_per_epoch`` makes, classes of others, and plain lists.
A leaf holds none. Hooks, checks and tools see data sets through this module alone.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmengine.dataset import BaseDataset, Compose
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import DATASETS, TRANSFORMS

INNER = ('datasets', '_dataset', 'dataset')


def build(dataset: Any) -> Any:
    """A data set of its config; that of a list is the ``ConcatDataset`` of its members."""
    if isinstance(dataset, (list, tuple)):
        parts = [build(part) for part in dataset]
        if not parts:
            raise UserTypeError('a list in the place of a data set is empty')
        return parts[0] if len(parts) == 1 else DATASETS.build(dict(type='ConcatDataset', datasets=parts))
    return DATASETS.build(dataset) if isinstance(dataset, dict) else dataset


def parts_of(dataset: Any) -> list:
    """The data sets right inside of a wrapper, none for a leaf."""
    if isinstance(dataset, (list, tuple)):
        return [part for part in dataset if _is_dataset(part)]
    for name in INNER:
        inner = _own(dataset, name)
        if inner is not None:
            found = parts_of(inner) if isinstance(inner, (list, tuple)) else [inner]
            found = [part for part in found if _is_dataset(part)]
            if found:
                return found
    return []


def _own(node: Any, name: str) -> Any:
    """An attribute that is the object's, not one that it hands on from what it wraps."""
    found = getattr(node, '__dict__', {}).get(name)
    if found is None and isinstance(getattr(type(node), name, None), property):
        found = getattr(node, name)
    return found


def _is_dataset(value: Any) -> bool:
    if isinstance(value, (str, bytes, dict)) or value is None:
        return False
    if isinstance(value, (list, tuple)):
        return bool(parts_of(value))
    return isinstance(value, Dataset) or any(hasattr(value, name) for name in ('get_data_info', 'metainfo', 'pipeline'))


def chains(dataset: Any) -> Iterator[tuple]:
    """For each leaf, in the order of the samples, the way to it: the outermost wrapper first, the leaf last.

    Lists are no members of a chain. A data set that is wrapped twice ends two chains.
    """
    parts = parts_of(dataset)
    own = () if isinstance(dataset, (list, tuple)) else (dataset,)
    if not parts:
        yield own
    for part in parts:
        for chain in chains(part):
            yield (*own, *chain)


def nodes(dataset: Any) -> list:
    """All wrappers and leaves, each once, wrappers before what is inside."""
    return _once(node for chain in chains(dataset) for node in chain)


def leaves(dataset: Any) -> list:
    """The innermost data sets, each once, in the order of the samples."""
    return _once(chain[-1] for chain in chains(dataset) if chain)


def _once(values: Iterator) -> list:
    return list({id(value): value for value in values}.values())


def full_init(dataset: Any) -> None:
    """Let a data set read its files, whatever it is wrapped in."""
    for chain in chains(dataset):
        for node in reversed(chain):
            if hasattr(node, 'full_init'):
                node.full_init()


def require_pictures(dataset: Any) -> None:
    """Stop where pictures that a data set would read are not there, before the first iteration.

    Raises:
        FileNotFoundError: naming the annotation file and a picture.
    """
    for leaf in leaves(dataset):
        if hasattr(leaf, 'require_pictures'):
            leaf.require_pictures()


def classes_of(dataset: Any) -> list[tuple[Any, Any]]:
    """Each leaf with its class names; ``None`` for one whose ``metainfo`` has none."""
    return [(leaf, (getattr(leaf, 'metainfo', None) or {}).get('classes')) for leaf in leaves(dataset)]


def require_same_order(train: Any, val: Any) -> None:
    """Stop where a label is one class in the training data and another in the validation data.

    Raises:
        UserValueError: naming the first such label.
    """
    ours, theirs = ([_names(*pair) for pair in classes_of(dataset)] for dataset in (train, val))
    for one, other in itertools.product(ours[:1], theirs):
        if one is not None and other is not None and len(one) == len(other) and one != other:
            label = next(i for i, pair in enumerate(zip(one, other, strict=True)) if len(set(pair)) > 1)
            raise UserValueError(
                f'label {label} is {one[label]!r} in the training data and {other[label]!r} in the validation data: '
                'give both the same metainfo.classes, in the same order'
            )


def _names(leaf: Any, classes: Any) -> tuple | None:
    """The classes of a leaf, unless it gives them to the model as text."""
    plain = isinstance(classes, (list, tuple)) and not getattr(leaf, 'return_classes', False)
    return tuple(classes) if plain else None


# --------------------------------------------------------------------------------------------------------------------
# Samples
def locate(dataset: Any, index: int) -> tuple[Any, int]:
    """The leaf of a sample and its index there."""
    parts = parts_of(dataset)
    if not parts:
        return dataset, index
    if len(parts) > 1 or hasattr(dataset, 'cumulative_sizes') or isinstance(dataset, (list, tuple)):
        left = index + (index < 0) * sum(map(len, parts))
        for part in parts:
            if left < len(part):
                return locate(part, left)
            left -= len(part)
        raise IndexError(f'{type(dataset).__name__} has no sample {index}')
    if hasattr(type(dataset), '_get_ori_dataset_idx'):  # its own, not one that it hands on
        index = dataset._get_ori_dataset_idx(index)
    elif isinstance(_own(dataset, 'indices'), Sequence):  # torch's Subset
        index = dataset.indices[index]
    elif len(dataset) > len(parts[0]):  # repeated
        index %= len(parts[0])
    return locate(parts[0], index)


def data_info(dataset: Any, index: int) -> dict:
    """What a data set knows of a sample before any transform: its own ``get_data_info``, or that of the leaf."""
    own = getattr(dataset, 'get_data_info', None)
    if own is not None:
        return own(index)
    leaf, inner = locate(dataset, index)
    return leaf.get_data_info(inner)


def labels_of(dataset: Any, index: int) -> list[int]:
    """Labels of the boxes of a sample."""
    own = getattr(dataset, 'get_cat_ids', None)
    if own is not None:
        return own(index)
    leaf, inner = locate(dataset, index)
    return leaf.get_cat_ids(inner)


def mark_samples(sample: Any, **marks: Any) -> Any:
    """Write marks into the metainfo of the data samples that a pipeline has packed, and give the sample back.

    Results carry with them what they are of: ``ann_file`` and, from a ``ConcatDataset``, ``dataset_index``.
    """
    packed = sample.get('data_samples') if isinstance(sample, dict) else None
    todo = [packed]
    while todo:
        one = todo.pop()
        if isinstance(one, (list, tuple)):
            todo += one
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, BaseDataElement):
            for name, value in marks.items():
                one.set_field(value, name, field_type='metainfo')
    return sample


# --------------------------------------------------------------------------------------------------------------------
# Transforms
def transforms_in(pipeline: Any) -> list:
    """The transforms of a ``Compose`` or a list."""
    return list(getattr(pipeline, 'transforms', pipeline) or ())


def pipeline_of(dataset: Any) -> list | None:
    """The transforms of one wrapper or leaf itself, ``None`` for one that has no pipeline."""
    pipeline = _own(dataset, 'pipeline')
    return None if pipeline is None else transforms_in(pipeline)


def set_pipeline(dataset: Any, pipeline: Sequence[dict | Callable]) -> None:
    """Give one wrapper or leaf other transforms."""
    built = [TRANSFORMS.build(dict(step)) if isinstance(step, dict) else step for step in pipeline]
    if hasattr(dataset, 'set_pipeline'):
        dataset.set_pipeline(built)
    else:
        dataset.pipeline = built if isinstance(_own(dataset, 'pipeline'), list) else Compose(built)


def needs_partners(transform: Any) -> bool:
    """Whether a transform, or a class of them, mixes in other samples that a ``MultiImageMixDataset`` has to give it.

    Such a transform chooses them by ``get_indexes(dataset)`` or ``get_indices(dataset)``; those that choose from a
    cache of their own do not need the wrapper.
    """
    for name in ('get_indexes', 'get_indices'):
        method = inspect.getattr_static(transform, name, None)
        if method is not None:
            try:
                names = list(inspect.signature(getattr(method, '__wrapped__', method)).parameters)
            except (TypeError, ValueError):
                return True
            return 'cache' not in ''.join(names[-1:])
    return False


def mixing_without_wrapper(dataset: Any) -> list[str]:
    """A sentence for each transform that would wait in vain for the samples to mix with."""
    found = []
    for node in nodes(dataset):
        steps = pipeline_of(node) or []
        given = bool(parts_of(node)) or not gives_no_partners(type(node))
        for step in steps:
            inner = [type(each).__name__ for each in _nested(step) if needs_partners(each)]
            if needs_partners(step) and not given:
                found.append(mixing_message(type(step).__name__, type(node).__name__))
            found += [nested_message(name, type(step).__name__) for name in inner]
    return found


def mixing_message(transform: str, dataset: str) -> str:
    """What to do about a mixing transform in the pipeline of a data set."""
    return (
        f'{transform} mixes several pictures, which the pipeline of {dataset} cannot give it. Wrap the data set: '
        f"dict(type='MultiImageMixDataset', dataset=dict(type='{dataset}', ..., pipeline=[what loads pictures and "
        f"annotations]), pipeline=[dict(type='{transform}', ...), and the rest])"
    )


def nested_message(transform: str, around: str) -> str:
    """What to do about a mixing transform inside of another transform."""
    return (
        f'{transform} inside of {around} gets no pictures to mix with: MultiImageMixDataset gives them to the '
        'transforms that stand in its pipeline themselves'
    )


def gives_no_partners(kind: type) -> bool:
    """Whether samples of a leaf of this class go through its pipeline as mmengine has it."""
    if not issubclass(kind, BaseDataset):
        return False
    ours = [vars(base) for base in kind.__mro__ if not base.__module__.startswith(('mmdet.', 'mmengine.', 'torch.'))]
    return not any(name in names for names in ours for name in ('__getitem__', 'prepare_data'))


def _nested(transform: Any) -> Iterator[Any]:
    """The transforms inside of one that applies others."""
    from mmcv.transforms import BaseTransform

    todo = list(getattr(transform, '__dict__', {}).values())
    while todo:
        value = todo.pop(0)
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, (list, tuple, Compose)):
            todo += transforms_in(value)
        elif isinstance(value, BaseTransform):
            yield value
            yield from _nested(value)

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import BaseDataset, force_full_init
from mmengine.dataset import ClassBalancedDataset as _ClassBalancedDataset
from mmengine.dataset import ConcatDataset as _ConcatDataset
from mmengine.dataset import RepeatDataset as _RepeatDataset
from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Subset

from mmdet.errors import UserTypeError, UserValueError
from mmdet.registry import DATASETS, TRANSFORMS

from .walk import build, full_init, leaves, locate, mark_samples


class _AsInside:
    """A wrapper whose ``metainfo`` is that of its data set at any time: names may be known only once it has read."""

    dataset: BaseDataset

    @property
    def metainfo(self) -> dict:
        """A copy of that of the inner data set."""
        return self.dataset.metainfo

    @property
    def _metainfo(self) -> dict:
        return self.metainfo


class _Delegates(_AsInside):
    """What a wrapper of one dataset asks of it by the index of that dataset."""

    _get_ori_dataset_idx: Callable[[int], int]

    @force_full_init
    def get_cat_ids(self, idx: int) -> list[int]:
        return self.dataset.get_cat_ids(self._get_ori_dataset_idx(idx))


@DATASETS.register_module()
class RepeatDataset(_Delegates, _RepeatDataset):
    """A dataset ``times`` over."""

    def __init__(self, dataset: dict | list | BaseDataset, times: int, lazy_init: bool = False) -> None:
        self.dataset = _with_methods(dataset)
        self.times = times
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()


@DATASETS.register_module()
class ClassBalancedDataset(_Delegates, _ClassBalancedDataset):
    """A dataset whose images come up to ``sqrt(oversample_thr / frequency)`` times, by their rarest class
    (LVIS, arXiv:1908.03195, Appendix B)."""

    def __init__(self, dataset: dict | list | BaseDataset, oversample_thr: float, lazy_init: bool = False) -> None:
        self.dataset = _with_methods(dataset)
        self.oversample_thr = oversample_thr
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()


@DATASETS.register_module()
class ConcatDataset(_ConcatDataset):
    """Datasets one after another.

    Args:
        datasets: Datasets or their configs.
        lazy_init: Load nothing yet.
        ignore_keys: Keys of ``metainfo`` in which the datasets may differ. Only ``classes`` is compared; the other
            keys are those of the first dataset.

    Datasets whose samples carry their class names as text may differ in ``classes``; :attr:`metainfo` is then a list.

    Raises:
        ValueError: the classes differ.
    """

    def __init__(
        self,
        datasets: Sequence[dict | BaseDataset],
        lazy_init: bool = False,
        ignore_keys: str | list[str] | None = None,
    ) -> None:
        self.datasets = [build(dataset) for dataset in datasets]
        self.ignore_keys = [ignore_keys] if isinstance(ignore_keys, str) else list(ignore_keys or ())
        self._fully_initialized = False
        self._require_same_classes()
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """Read the data sets, if that has not happened, and compare the classes that their files have given them."""
        if not self._fully_initialized:
            for dataset in self.datasets:
                full_init(dataset)
            TorchConcatDataset.__init__(self, self.datasets)
            self._require_same_classes()
            self._fully_initialized = True

    @property
    def metainfo(self) -> dict | list[dict]:
        """That of the first data set, or of each where they differ in ``classes``.

        ``cumulative_sizes`` says, once they are read, at which sample each data set ends.
        """
        metas = [_meta_of(dataset) for dataset in self.datasets]
        if self._fully_initialized:
            for meta in metas:
                meta['cumulative_sizes'] = list(self.cumulative_sizes)
        return metas[0] if _alike(metas) else metas

    @property
    def _metainfo(self) -> dict | list[dict]:
        return self.metainfo

    def _require_same_classes(self) -> None:
        metas = [_meta_of(dataset) for dataset in self.datasets]
        if not _alike(metas) and 'classes' not in self.ignore_keys and not self._read_text():
            shown = '\n'.join(f'  dataset {i}: {_brief(meta.get("classes"))}' for i, meta in enumerate(metas))
            raise UserValueError(
                f'the datasets of ConcatDataset have different classes:\n{shown}\nThe same label would mean '
                "different things. Give all the same metainfo.classes (class_order='metainfo' lets a file lack some "
                "of them), or set ignore_keys=['classes'] if that is meant"
            )

    def __getitem__(self, idx: int) -> Any:
        """A sample; the data samples in it know by ``dataset_index`` which of the data sets they are of."""
        return mark_samples(super().__getitem__(idx), dataset_index=self.get_dataset_source(idx))

    def _read_text(self) -> bool:
        return any(getattr(leaf, 'return_classes', False) for leaf in leaves(self))

    @force_full_init
    def get_cat_ids(self, idx: int) -> list[int]:
        """Classes of the objects in a picture."""
        leaf, inner = locate(self, idx)
        return leaf.get_cat_ids(inner)

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Of the data set that the sample is of."""
        leaf, inner = locate(self, idx)
        return leaf.get_data_info(inner)

    def get_dataset_source(self, idx: int) -> int:
        """Which of the datasets the sample ``idx`` comes from."""
        return self._get_ori_dataset_idx(idx)[0]


def _alike(metas: list[dict]) -> bool:
    return all(_plain(meta.get('classes')) == _plain(metas[0].get('classes')) for meta in metas)


def _with_methods(dataset: Any) -> Any:
    """A data set, built; one of torch's wrappers, which ask for samples only, in a ``ConcatDataset`` of it alone."""
    dataset = build(dataset)
    plain = isinstance(dataset, (TorchConcatDataset, Subset)) and not hasattr(dataset, 'get_data_info')
    return ConcatDataset([dataset]) if plain else dataset


def _meta_of(dataset: Any) -> dict:
    """A copy of the ``metainfo`` of a data set, of the first of several in one, or of that behind a ``Subset``."""
    meta = dataset.metainfo if hasattr(dataset, 'metainfo') else leaves(dataset)[0].metainfo
    return dict(meta[0] if isinstance(meta, list) else meta)


def _plain(value):
    return [_plain(x) for x in value] if isinstance(value, (list, tuple)) else value


def _brief(value) -> str:
    text = repr(value)
    return text if len(text) < 120 else text[:120] + ' ...'


@DATASETS.register_module()
class MultiImageMixDataset(_AsInside):
    """A dataset whose transforms mix several images (Mosaic, MixUp, CopyPaste).

    A transform with ``get_indexes(dataset)``, or ``get_indices``, is given the samples at those indices as
    ``results['mix_results']``.
    The dataset should load images and annotations only; the other transforms belong here.

    Args:
        dataset: The wrapped dataset.
        pipeline: Transforms.
        skip_type_keys: Types of transforms to leave out; hooks switch off augmentations with it.
        max_refetch: How often to draw other images when one of them or the result is ``None``.
        lazy_init: Load nothing yet.
    """

    def __init__(
        self,
        dataset: dict | list | BaseDataset,
        pipeline: Sequence[dict | Callable],
        skip_type_keys: Sequence[str] | None = None,
        max_refetch: int = 15,
        lazy_init: bool = False,
    ) -> None:
        self._skip_type_keys = self._checked(skip_type_keys)
        self.set_pipeline(pipeline)
        self.dataset = _with_methods(dataset)
        self.max_refetch = max_refetch
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @staticmethod
    def _checked(skip_type_keys: Sequence[str] | None) -> Sequence[str] | None:
        if skip_type_keys is not None and not all(isinstance(key, str) for key in skip_type_keys):
            raise UserTypeError(f'skip_type_keys must be names of transforms, not {skip_type_keys!r}')
        return skip_type_keys

    def set_pipeline(self, pipeline: Sequence[dict | Callable]) -> None:
        """Replace the transforms."""
        self.pipeline: list[Callable] = []
        self.pipeline_types: list[str] = []
        for transform in pipeline:
            if isinstance(transform, dict):
                kind = transform['type']
                self.pipeline_types.append(kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__)
                self.pipeline.append(TRANSFORMS.build(transform))
            elif callable(transform):
                self.pipeline_types.append(type(transform).__name__)
                self.pipeline.append(transform)
            else:
                raise UserTypeError(f'pipeline must hold dicts or callables, not {transform!r}')

    def full_init(self) -> None:
        """Read the inner data set, if that has not happened."""
        if not self._fully_initialized:
            self.dataset.full_init()
            self.num_samples = len(self.dataset)
            self._fully_initialized = True

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Of the inner data set."""
        return self.dataset.get_data_info(idx)

    @force_full_init
    def get_cat_ids(self, idx: int) -> list[int]:
        """Classes of the objects in a picture."""
        return self.dataset.get_cat_ids(idx)

    @force_full_init
    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, idx: int) -> dict:
        results = self.dataset[idx]
        for transform, kind in zip(self.pipeline, self.pipeline_types, strict=True):
            if self._skip_type_keys is not None and kind in self._skip_type_keys:
                continue
            results = self._apply(transform, results)
        return results

    def _apply(self, transform: Callable, results: dict) -> dict:
        for _ in range(self.max_refetch):
            mixed = copy.deepcopy(results)
            choose = getattr(transform, 'get_indexes', None) or getattr(transform, 'get_indices', None)
            if choose is not None:
                indices = choose(self.dataset)
                indices = indices if isinstance(indices, Sequence) else [indices]
                mixed['mix_results'] = [self.dataset[index] for index in indices]
                if None in mixed['mix_results']:
                    continue
            mixed = transform(mixed)
            if mixed is not None:
                mixed.pop('mix_results', None)
                return mixed
        raise RuntimeError(
            f'{type(transform).__name__} gave nothing for {results.get("img_path")} in {self.max_refetch} tries: '
            'look at the pipeline, or raise max_refetch'
        )

    def update_skip_type_keys(self, skip_type_keys: Sequence[str] | None) -> None:
        """Leave out other types of transforms from now on."""
        self._skip_type_keys = self._checked(skip_type_keys)

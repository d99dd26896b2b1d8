"""What every detection dataset shares: proposals, filters that count what they take, errors that name the file."""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmdet.errors import UserError, UserFileError, UserKeyError, UserTypeError, UserValueError
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.utils.pictures import picture_size

from .presence import missing_files, pictures_to_read
from .proposals import read_proposals
from .raw import RawAnnotations, parsed_annotations
from .reading.coco_file import without_collection
from .reading.faults import named_faults
from .reading.report import KINDS, Report
from .reading.samples import check_samples
from .walk import mark_samples


@DATASETS.register_module()
class BaseDetDataset(BaseDataset):
    """Base of the detection datasets.

    A sample is a dict with ``img_path``, ``img_id``, ``height``, ``width`` and ``instances``; an instance has
    ``bbox`` (x1, y1, x2, y2 in pixels), ``bbox_label``, ``ignore_flag`` and, where there is one, ``mask``. ``report``
    is what was read, repaired and left out; it goes to the log when the dataset is loaded.

    Args:
        seg_map_suffix: Extension of the semantic segmentation maps under ``data_prefix['seg']``.
        proposal_file: File of precomputed proposals, by ``<folder>/<file name>`` of the image.
        file_client_args: Name of ``backend_args`` before 3.0; raises ``ValueError``.
        return_classes: Give each sample the class names as ``text`` (for models that read them).
        caption_prompt: Per class name a dict with ``prefix``, ``suffix`` or ``name``, for the same models.
    """

    ALL_STAY = False
    """Boxes without area stay in training too: where a text goes with each instance, or none may be missed."""
    _fully_initialized: bool

    def __init__(
        self,
        *args,
        seg_map_suffix: str = '.png',
        proposal_file: str | None = None,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        return_classes: bool = False,
        caption_prompt: dict | None = None,
        **kwargs,
    ) -> None:
        if file_client_args is not None:
            raise UserValueError(
                f'file_client_args={file_client_args!r} is not read any more: use backend_args instead'
            )
        for name in ('ann_file', 'data_root'):
            if isinstance(kwargs.get(name), (list, tuple)):
                raise UserTypeError(
                    f'{type(self).__name__} reads one data set, but {name} is a list: {kwargs[name]!r}. Write a '
                    f"ConcatDataset with a {type(self).__name__} in 'datasets' for each"
                )
        prefix = kwargs.get('data_prefix', {})
        if not isinstance(prefix, dict):
            raise UserTypeError(
                f'data_prefix must be a dict of folders, such as data_prefix=dict(img={prefix!r}), not {prefix!r}'
            )
        if caption_prompt is not None and not return_classes:
            raise UserValueError('caption_prompt needs return_classes=True')
        self.seg_map_suffix = seg_map_suffix
        self.proposal_file = proposal_file
        self.backend_args = backend_args
        self.return_classes = return_classes
        self.caption_prompt = caption_prompt
        self.filtered_out: dict[str, int] = {}
        self._missing_pictures: tuple[int, list[str]] = (0, [])
        self.report = Report('')
        if kwargs.get('pipeline'):  # built here, so that the transforms are ours whatever the default scope is
            kwargs['pipeline'] = [TRANSFORMS.build(x) if isinstance(x, dict) else x for x in kwargs['pipeline']]
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """Load, attach proposals, filter, take ``indices``, serialise.

        Raises:
            ValueError: when no sample is left, with what each filter took.
        """
        if self._fully_initialized:
            return
        with without_collection():
            self._load()
        self._fully_initialized = True

    def _load(self) -> None:
        self.report = Report(str(self.ann_file))
        with named_faults(self):
            self.data_list = self.load_data_list()
            self.load_proposals()
        loaded = len(self.data_list)
        self._check_samples()
        self.data_list = self.filter_data()
        if not self.data_list:
            raise UserValueError(self._why_empty(loaded))
        print_log(self._told(), 'current')
        if self._indices is not None:
            self.data_list = self._get_unserialized_subset(self._indices)
        paths = pictures_to_read(self.data_list, self.pipeline.transforms)
        self._missing_pictures = len(paths), missing_files(paths)
        if self.serialize_data and self.data_list:
            self.data_bytes, self.data_address = self._serialize_data()

    def require_pictures(self) -> None:
        """Stop where pictures of the loaded samples are not there, unless the pipeline goes on without them.

        Raises:
            FileNotFoundError: with how many they are, and one of them.
        """
        count, missing = self._missing_pictures
        if missing:
            folder = osp.dirname(missing[0])
            hint = '' if osp.isdir(folder or '.') else f' (nor is there a folder {folder!r}: look at data_prefix)'
            raise UserFileError(
                f'{len(missing)} of {count} pictures of {str(self.ann_file)!r} do not exist, such as '
                f'{missing[0]!r}{hint}'
            )

    @property
    def loads_masks(self) -> bool | None:
        """Whether the pipeline reads masks; None where it does not say."""
        told = [transform.with_mask for transform in self.pipeline.transforms if hasattr(transform, 'with_mask')]
        return any(told) if told else None

    def _left_out(self, kind: str) -> None:
        """Count an object that :meth:`load_data_list` leaves out."""
        self.report.count(kind)

    def _check_samples(self) -> None:
        """Stop at boxes that are no numbers; leave those out of training that have no area or lie outside."""
        samples = check_samples(self)
        masks = 0 if self.loads_masks is False else sum(_has_mask(x) for info in samples for x in info['instances'])
        boxes = sum(len(info['instances']) for info in samples)
        left_out = sum(n for kind, n in self.report.of('left out').items() if KINDS[kind].unit == 'boxes')
        for unit, count in (('pictures', len(samples)), ('boxes', boxes + left_out), ('masks', masks)):
            self.report.read.setdefault(unit, count)

    def _told(self) -> str:
        """The table of what was read, what of it is used and why the rest is not."""
        samples = [info['instances'] for info in self.data_list if 'instances' in info]
        self.report.used = dict(pictures=len(self.data_list), boxes=sum(map(len, samples)), masks=0)
        if self.report.read.get('masks'):
            self.report.used['masks'] = sum(_has_mask(x) for instances in samples for x in instances)
        self.report.filters = {name: count for name, count in self.filtered_out.items() if count}
        return f'{type(self).__name__} {self.report.table()}'

    def _why_empty(self, loaded: int) -> str:
        if not loaded:
            return f'{type(self).__name__}: {self.ann_file!r} lists no images'
        taken = '; '.join(f'{name} took {count}' for name, count in self.filtered_out.items() if count)
        classes = self._metainfo.get('classes') or ()
        shown = ', '.join(map(str, classes[:8])) + (', ...' if len(classes) > 8 else '')
        return (
            f'{type(self).__name__}: none of the {loaded} images of {self.ann_file!r} is left after filtering: '
            f'{taken or "a filter of the subclass took all"}. Classes: {shown or "none"}. '
            f'filter_cfg={dict(self.filter_cfg or {})}'
        )

    def _filter(self, rules: dict[str, Callable[[dict], bool]]) -> list[dict]:
        """Samples that no rule takes; ``rules`` maps what to tell the user to a predicate that is true for a victim.

        A sample is counted under the first rule that takes it.
        """
        self.filtered_out = dict.fromkeys(rules, 0)
        kept = []
        for info in self.data_list:
            for name, takes in rules.items():
                if takes(info):
                    self.filtered_out[name] += 1
                    break
            else:
                kept.append(info)
        return kept

    def _size_rule(self) -> dict[str, Callable[[dict], bool]]:
        min_size = self.filter_cfg.get('min_size', 0)
        return {f'min_size={min_size} (shorter side in pixels)': lambda x: min(x['width'], x['height']) < min_size}

    def _plain_rules(self) -> dict[str, Callable[[dict], bool]]:
        """``filter_empty_gt`` by the instances of a sample, and ``min_size``."""
        rules = {}
        if self.filter_cfg.get('filter_empty_gt', False):
            rules['filter_empty_gt (no box of the classes)'] = lambda info: not info['instances']
        return {**rules, **self._size_rule()}

    def raw_annotations(self) -> RawAnnotations:
        """What the annotation files hold, before any of it is left out. It may be asked for before the dataset loads.

        Datasets whose reader knows no more give what :meth:`load_data_list` keeps.
        """
        return parsed_annotations(self)

    def load_proposals(self) -> None:
        """Attach ``proposals`` of :attr:`proposal_file` to the samples; the file is read by :func:`read_proposals`."""
        if self.proposal_file is None:
            return
        if not is_abs(self.proposal_file):
            self.proposal_file = osp.join(self.data_root or '', self.proposal_file)
        proposals = read_proposals(self.proposal_file, self.backend_args)
        for info in self.data_list:
            folder, name = osp.split(info['img_path'])
            key = osp.join(osp.basename(folder), name)
            if key not in proposals:
                raise UserKeyError(f'{self.proposal_file} has no proposals for {key!r}')
            info['proposals'] = proposals[key]

    def prepare_data(self, idx: int) -> Any:
        """A sample after the pipeline; what fails in a transform is told with the picture at which it failed."""
        try:
            return super().prepare_data(idx)
        except Exception as error:
            if not isinstance(error, UserError) and hasattr(error, 'add_note'):  # from Python 3.11 on
                sample = self.get_data_info(idx)
                error.add_note(f'This was at sample {idx} of {self.ann_file}: {sample.get("img_path")}')
            raise

    def __getitem__(self, idx: int) -> Any:
        """A sample after the pipeline; its data samples know the annotation file that they come from."""
        return mark_samples(super().__getitem__(idx), ann_file=str(self.ann_file))

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of the boxes of a sample, one for each box."""
        return [instance['bbox_label'] for instance in self.get_data_info(idx)['instances']]

    def _picture_size(self, img_path: str) -> dict[str, int]:
        """``height`` and ``width`` from the header of an image file."""
        try:
            width, height = picture_size(img_path, self.backend_args)
        except UserFileError as error:
            raise UserFileError(f'{error} (named in {self.ann_file!r})') from None
        return dict(height=height, width=width)

    def _text_fields(self) -> dict:
        if not self.return_classes:
            return {}
        return dict(text=self._metainfo['classes'], caption_prompt=self.caption_prompt, custom_entities=True)

    def __repr__(self) -> str:
        size = len(self) if self._fully_initialized else 'not loaded'
        classes = self._metainfo.get('classes') or ()
        return f'{type(self).__name__}({self.ann_file!r}, images: {size}, classes: {len(classes)})'


def _has_mask(instance: dict) -> bool:
    mask = instance.get('mask')
    return mask is not None and len(mask) > 0

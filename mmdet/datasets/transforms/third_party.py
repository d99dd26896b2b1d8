"""Transforms of optional libraries."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.errors import UserImportError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.bbox.box_type import autocast_box_type
from mmdet.structures.mask import BitmapMasks

from .fields import select_instances, set_image
from .moving import BOX_PARAMETERS, moving_transforms


def corrupt_function() -> Callable:
    """``corrupt`` of the package ``imagecorruptions``, of which ``imagecorruptions-imaug`` is the kept fork."""
    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise UserImportError(
            f'Corrupt needs imagecorruptions: pip install imagecorruptions-imaug ({error})'
        ) from error
    return corrupt


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """One of the corruptions of arXiv:1907.07484, from the package ``imagecorruptions``."""

    def __init__(self, corruption: str, severity: int = 1) -> None:
        self.corruption = corruption
        self.severity = severity

    def transform(self, results: dict) -> dict:
        img = results['img']
        corrupted = corrupt_function()(img.astype(np.uint8), corruption_name=self.corruption, severity=self.severity)
        results['img'] = corrupted.astype(img.dtype)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(corruption={self.corruption!r}, severity={self.severity})'


@TRANSFORMS.register_module()
class Albu(BaseTransform):
    """Transforms of the package ``albumentations``.

    Args:
        transforms: Their configs, with the names and arguments of that package.
        bbox_params: Arguments of ``albumentations.BboxParams``. ``label_fields`` and ``filter_lost_elements`` are
            accepted and need not be given: the labels, masks and flags of a lost box are always lost with it.
        keymap: Names of our fields -> those of albumentations.
        skip_img_without_anno: A sample that loses all its boxes becomes ``None``.

    Raises:
        UserValueError: for a sample with boxes, where a transform moves the picture and ``bbox_params`` is None, and
            for one with a segmentation map or proposals, which would stay where they are.
    """

    def __init__(
        self,
        transforms: list[dict],
        bbox_params: dict | None = None,
        keymap: dict[str, str] | None = None,
        skip_img_without_anno: bool = False,
    ) -> None:
        try:
            import albumentations
        except ImportError as error:
            raise UserImportError(f'Albu needs albumentations: pip install albumentations ({error})') from error
        self.library = albumentations
        self.transforms = copy.deepcopy(transforms)
        self.bbox_params = copy.deepcopy(bbox_params)
        self.skip_img_without_anno = skip_img_without_anno
        self.moving = moving_transforms(self.transforms)
        self.keymap = keymap or {'img': 'image', 'gt_masks': 'masks', 'gt_bboxes': 'bboxes'}
        self.aug = albumentations.Compose(
            [self.albu_builder(cfg) for cfg in self.transforms], bbox_params=self._build_bbox_params()
        )

    @staticmethod
    def mapper(d: dict, keymap: dict) -> dict:
        """``d`` with its keys renamed by ``keymap``; the others stay."""
        return {keymap.get(key, key): value for key, value in d.items()}

    def albu_builder(self, cfg: dict):
        """The transform of albumentations, or of a class, that a config asks for."""
        args = dict(cfg)
        kind = args.pop('type')
        if isinstance(kind, str):
            if kind == 'JpegCompression' and not hasattr(self.library, kind):  # its name until albumentations 1.4
                kind = 'ImageCompression'
                args['quality_range'] = args.pop('quality_lower', 99), args.pop('quality_upper', 100)
            if not isinstance(getattr(self.library, kind, None), type):  # its functions read and write files
                near = ', '.join(difflib.get_close_matches(kind, dir(self.library), n=3)) or 'none'
                raise UserValueError(f'albumentations {self.library.__version__} has no {kind!r}; nearest: {near}')
            kind = getattr(self.library, kind)
        if 'transforms' in args:
            args['transforms'] = [self.albu_builder(inner) for inner in args['transforms']]
        return kind(**args)

    def _refuse_what_would_stay(self, results: dict) -> None:
        names = ', '.join(self.moving)
        if self.bbox_params is None and len(results.get('gt_bboxes', ())):
            raise UserValueError(
                f'Albu: {names} would move the picture and not the boxes. Set bbox_params={BOX_PARAMETERS}.'
            )
        for field in ('gt_seg_map', 'proposals'):
            if results.get(field) is not None:
                raise UserValueError(f'Albu: {names} would move the picture and not {field}.')

    def _build_bbox_params(self):
        if self.bbox_params is None:
            return None
        args = {k: v for k, v in self.bbox_params.items() if k not in ('type', 'filter_lost_elements')}
        if args.setdefault('format', 'pascal_voc') != 'pascal_voc':
            raise UserValueError(f"boxes are x1, y1, x2, y2: format must be 'pascal_voc', not {args['format']!r}")
        return self.library.BboxParams(**{**args, 'label_fields': ['index']})

    @autocast_box_type()
    def transform(self, results: dict) -> dict | None:
        boxes, masks = results.get('gt_bboxes'), results.get('gt_masks')
        if self.moving:
            self._refuse_what_would_stay(results)
        fields = {self.keymap.get('img', 'image'): results['img']}
        if boxes is not None and self.bbox_params is not None:
            height, width = results['img'].shape[:2]
            array = np.clip(boxes.numpy(), 0, (width, height, width, height))
            kept = np.flatnonzero((array[:, 2:] > array[:, :2]).all(-1))  # albumentations refuses empty boxes
            fields |= {self.keymap.get('gt_bboxes', 'bboxes'): array[kept].tolist(), 'index': kept.tolist()}
        if masks is not None and len(masks):
            fields[self.keymap.get('gt_masks', 'masks')] = list(masks.to_ndarray())
        if hasattr(self.aug, 'set_random_seed'):  # since 1.4 it draws from a generator of its own
            self.aug.set_random_seed(np.random.randint(2**31 - 1))
        output = self.aug(**fields)
        set_image(results, output[self.keymap.get('img', 'image')])
        if masks is not None:
            bitmaps = output[self.keymap.get('gt_masks', 'masks')] if len(masks) else []
            results['gt_masks'] = BitmapMasks(list(bitmaps), *results['img_shape'])
        if boxes is not None and 'index' in output:
            index = np.asarray(output['index'], dtype=np.int64)
            if self.skip_img_without_anno and not len(index):
                return None
            moved = np.zeros((len(boxes), 4), dtype=np.float32)
            moved[index] = np.asarray(output[self.keymap.get('gt_bboxes', 'bboxes')], np.float32).reshape(-1, 4)
            results['gt_bboxes'] = HorizontalBoxes(moved)
            select_instances(results, np.isin(np.arange(len(boxes)), index))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'

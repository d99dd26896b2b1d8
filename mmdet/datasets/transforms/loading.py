from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms import LoadAnnotations as _LoadAnnotations
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.structures import InstanceData

from mmdet.errors import UserKeyError, UserTypeError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import get_box_type
from mmdet.structures.bbox.box_type import autocast_box_type
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.structures.mask.validation import check_mask
from mmdet.utils.pictures import array_of, as_picture, read_picture, say_once

from .fields import select_instances


@TRANSFORMS.register_module()
class LoadImageFromFile(_LoadImageFromFile):
    """Read ``img_path`` into ``img`` (H, W, 3; BGR; uint8), ``img_shape`` and ``ori_shape``.

    Arguments as mmcv's. An image that is missing, cannot be decoded or is larger than
    :func:`mmdet.utils.pictures.pixel_limit` raises an error that names the file; with ``ignore_empty`` the sample
    becomes ``None`` and the dataset draws another.

    Args:
        bit_depth: Bits of the pixels of pictures that have more than eight, see
            :func:`mmdet.utils.pictures.as_picture`.
    """

    reads_files = True

    def __init__(self, *args, bit_depth: int | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if bit_depth is not None and not 8 <= bit_depth <= 16:
            raise UserValueError(f'bit_depth={bit_depth!r} must be from 8 to 16, or None')
        self.bit_depth = bit_depth

    def transform(self, results: dict) -> dict | None:
        args = self.backend_args if self.file_client_args is None else self.file_client_args
        try:
            img = read_picture(results['img_path'], args, self.color_type, self.imdecode_backend, self.bit_depth)
        except (OSError, ValueError):
            if self.ignore_empty:
                return None
            raise
        given = results.get('width', img.shape[1]), results.get('height', img.shape[0])
        if given != (img.shape[1], img.shape[0]):
            text = f'image {results["img_path"]!r} is {img.shape[1]}x{img.shape[0]}, its annotation says %sx%s' % given
            say_once('size', f'{text}; tools/dataset_doctor.py lists all of which this is so. This is said once.')
        return self._put(results, img)

    def _put(self, results: dict, img: np.ndarray) -> dict:
        results['img'] = img.astype(np.float32) if self.to_float32 else img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results


@TRANSFORMS.register_module()
class LoadImageFromNDArray(LoadImageFromFile):
    """The same for an image that is already in ``results['img']``, and means what a file with its pixels would mean.

    It is an array (see :func:`mmdet.utils.pictures.as_picture`), or a Pillow picture or tensor (see
    :func:`mmdet.utils.pictures.array_of`).
    """

    reads_files = False

    def transform(self, results: dict) -> dict:
        results['img_path'] = None
        return self._put(results, as_picture(array_of(results['img']), self.color_type, self.bit_depth))


@TRANSFORMS.register_module()
class LoadMultiChannelImageFromFiles(BaseTransform):
    """Stack the files listed in ``img_path`` along the last axis."""

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'unchanged',
        imdecode_backend: str = 'cv2',
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if file_client_args is not None:
            raise UserValueError('file_client_args is not read any more: use backend_args instead')
        self.to_float32 = to_float32
        self.color_type = color_type
        self.imdecode_backend = imdecode_backend
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        paths = results['img_path']
        if not isinstance(paths, (list, tuple)):
            raise UserTypeError(f'img_path must be a list of files, not {paths!r}')
        channels = [read_picture(path, self.backend_args, self.color_type, self.imdecode_backend) for path in paths]
        img = np.stack(channels, axis=-1)
        if self.to_float32:
            img = img.astype(np.float32)
        results['img'] = img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(to_float32={self.to_float32}, color_type={self.color_type!r})'


@TRANSFORMS.register_module()
class InferencerLoader(BaseTransform):
    """Load what an inferencer is given: a path, an array, a Pillow picture, a tensor, or a dict with one of these as
    ``img_path`` or ``img``.
    """

    def __init__(self, **kwargs) -> None:
        self.from_file = LoadImageFromFile(**kwargs)
        self.from_ndarray = LoadImageFromNDArray(**kwargs)

    def transform(self, results: Any) -> dict | None:
        if isinstance(results, (str, os.PathLike)):
            results = dict(img_path=os.fspath(results))
        elif isinstance(array_of(results), np.ndarray):
            results = dict(img=results)
        elif not isinstance(results, dict):
            raise UserTypeError(f'an input must be a path, an array or a dict, not {type(results).__name__}')
        return self.from_ndarray(results) if 'img' in results else self.from_file(results)


_FAKE_POLYGON = np.zeros(6)


@TRANSFORMS.register_module()
class LoadAnnotations(_LoadAnnotations):
    """Turn ``instances`` into ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_ignore_flags``, ``gt_masks``, ``gt_seg_map``
    and ``gt_keypoints``.

    A mask is a list of polygons, an RLE (compressed or not) or a bitmap (H, W). Polygons with fewer than three points
    are dropped; an instance left without a usable mask is ignored in training.

    Args:
        with_mask: Load instance masks.
        poly2mask: Draw polygons into bitmaps; else keep them as :class:`PolygonMasks`, which cannot hold RLE.
        box_type: Registered box type, or ``None`` for a plain (N, 4) array.
        reduce_zero_label: Subtract 1 from the labels of the semantic map; 0 becomes ``ignore_index``.
        kwargs: ``with_bbox``, ``with_label``, ``with_seg``, ``with_keypoints``, ``imdecode_backend``,
            ``backend_args``.
    """

    def __init__(
        self,
        with_mask: bool = False,
        poly2mask: bool = True,
        box_type: str | None = 'hbox',
        reduce_zero_label: bool = False,
        ignore_index: int = 255,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.with_mask = with_mask
        self.poly2mask = poly2mask
        self.box_type = box_type
        self.reduce_zero_label = reduce_zero_label
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        if self.with_bbox:
            self._load_bboxes(results)
        if self.with_label:
            self._load_labels(results)
        if self.with_mask:
            self._load_masks(results)
        if self.with_seg:
            self._load_seg_map(results)
        if self.with_keypoints:
            self._load_kps(results)
        return results

    def _load_bboxes(self, results: dict) -> None:
        instances = results.get('instances', [])
        boxes = [instance['bbox'] for instance in instances]
        if self.box_type is None:
            results['gt_bboxes'] = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        else:
            _, box_class = get_box_type(self.box_type)
            results['gt_bboxes'] = box_class(boxes, dtype=torch.float32)
        results['gt_ignore_flags'] = np.array([instance['ignore_flag'] for instance in instances], dtype=bool)

    def _load_labels(self, results: dict) -> None:
        labels = [instance['bbox_label'] for instance in results.get('instances', [])]
        results['gt_bboxes_labels'] = np.array(labels, dtype=np.int64)

    def _poly2mask(self, mask_ann: list | dict | np.ndarray, img_h: int, img_w: int) -> np.ndarray:
        """Bitmap (H, W) of polygons, an RLE or a bitmap."""
        if isinstance(mask_ann, np.ndarray):
            return mask_ann.astype(np.uint8)
        import pycocotools.mask as coco_mask

        if isinstance(mask_ann, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(mask_ann, img_h, img_w))
        elif isinstance(mask_ann['counts'], list):
            rle = coco_mask.frPyObjects(mask_ann, img_h, img_w)
        else:
            rle = mask_ann
        return coco_mask.decode(rle)

    def _process_masks(self, results: dict) -> list:
        masks = []
        for number, instance in enumerate(results.get('instances', []), start=1):
            if 'mask' not in instance:
                raise UserKeyError(f'{results.get("img_path")}: a box has no mask: {instance}')
            mask, wrong = self._usable(instance['mask'], *results['ori_shape'])
            if wrong is not None:
                raise UserValueError(f'{results.get("img_path")}: object {number} {wrong}')
            if mask is None:
                instance['ignore_flag'] = 1
                mask = [_FAKE_POLYGON]
            masks.append(mask)
        flags = [instance['ignore_flag'] for instance in results.get('instances', [])]
        results['gt_ignore_flags'] = np.array(flags, dtype=bool)
        return masks

    def _usable(self, mask: Any, height: int, width: int) -> tuple[list | dict | np.ndarray | None, str | None]:
        """What code in C may read of a mask, and what is wrong with one that has no meaning."""
        if isinstance(mask, np.ndarray):
            wrong = None if mask.shape == (height, width) else f"has a bitmap of shape {mask.shape}, not its picture's"
            return (mask if self.poly2mask else None), wrong
        if isinstance(mask, dict) and (mask.get('counts') is None or mask.get('size') is None):
            return None, None
        found = check_mask(mask, height, width)
        usable: list | dict | None = found.mask
        if isinstance(usable, list):
            usable = [np.array(polygon) for polygon in usable]
        elif not self.poly2mask:
            usable = None
        return usable, None if found.problem is None else found.problem[1]

    def _load_masks(self, results: dict) -> None:
        height, width = results['ori_shape']
        masks = self._process_masks(results)
        if self.poly2mask:
            bitmaps = [self._poly2mask(mask, height, width) for mask in masks]
            results['gt_masks'] = BitmapMasks(bitmaps, height, width)
        else:
            results['gt_masks'] = PolygonMasks(masks, height, width)

    def _load_seg_map(self, results: dict) -> None:
        if results.get('seg_map_path') is None:
            return
        args = self.backend_args if self.file_client_args is None else self.file_client_args
        seg = read_picture(results['seg_map_path'], args, 'unchanged', self.imdecode_backend)
        seg = seg[..., 0] if seg.ndim == 3 and seg.shape[2] == 1 else seg
        _check_map(seg, results)
        if self.reduce_zero_label:
            ignored = (seg == 0) | (seg == self.ignore_index)
            seg = np.where(ignored, self.ignore_index, seg - 1).astype(seg.dtype)
        if results.get('label_map') is not None:
            seg = self._renumbered(seg, results['label_map'])
        self._check_labels(seg, results)
        results['gt_seg_map'] = seg
        results['ignore_index'] = self.ignore_index

    def _renumbered(self, seg: np.ndarray, label_map: dict[int, int]) -> np.ndarray:
        """``seg`` with the new labels of ``label_map``; those that it lacks stay."""
        table = np.arange(max(int(seg.max(initial=0)), *label_map) + 1)
        table[list(label_map)] = [self.ignore_index if new == 255 else new for new in label_map.values()]
        return table[seg].astype(seg.dtype)

    def _check_labels(self, seg: np.ndarray, results: dict) -> None:
        count = results.get('num_seg_classes')
        if count is None:
            return
        wrong = (seg >= count) & (seg != self.ignore_index)
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            hint = '' if self.reduce_zero_label else '; for maps that count from 1, set reduce_zero_label=True'
            raise UserValueError(
                f'semantic map {results["seg_map_path"]!r} has the label {seg[y, x]} at x {x}, y {y}, but the data set '
                f'has {count} classes, numbered from 0, and ignores {self.ignore_index}{hint}'
            )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(with_bbox={self.with_bbox}, with_label={self.with_label}, '
            f'with_mask={self.with_mask}, with_seg={self.with_seg}, poly2mask={self.poly2mask}, '
            f'box_type={self.box_type!r})'
        )


def _check_map(seg: np.ndarray, results: dict) -> None:
    """Refuse a semantic or panoptic map of another size than its picture's, or a semantic one that is in colours."""
    path, shape = results['seg_map_path'], results.get('ori_shape')
    if seg.ndim != 2:
        raise UserValueError(
            f'semantic map {path!r} has {seg.shape[2]} channels, where the number of a class is one: is it drawn in '
            "colours? imdecode_backend='pillow' reads the numbers behind a palette"
        )
    if shape is not None and seg.shape[:2] != tuple(shape[:2]):
        raise UserValueError(
            f'map {path!r} is {seg.shape[1]}x{seg.shape[0]}, but its picture {results.get("img_path")!r} is '
            f'{shape[1]}x{shape[0]}'
        )


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(LoadAnnotations):
    """The same with masks and the semantic map taken from a COCO panoptic PNG (``seg_map_path``, ``segments_info``).

    Pixels of no segment are 255 in ``gt_seg_map``; things give one bitmap each, in the order of ``segments_info``.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        box_type: str = 'hbox',
        imdecode_backend: str = 'cv2',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            with_keypoints=False,
            box_type=box_type,
            imdecode_backend=imdecode_backend,
            backend_args=backend_args,
        )

    def transform(self, results: dict) -> dict:
        if self.with_bbox:
            self._load_bboxes(results)
        if self.with_label:
            self._load_labels(results)
        if self.with_mask or self.with_seg:
            self._load_masks_and_semantic_segs(results)
        return results

    def _load_masks_and_semantic_segs(self, results: dict) -> None:
        if results.get('seg_map_path') is None:
            return
        png = read_picture(results['seg_map_path'], self.backend_args, 'color', self.imdecode_backend)
        ids = (png.astype(np.int32) * (65536, 256, 1)).sum(-1, dtype=np.int32)  # BGR: id = R + 256 G + 65536 B
        _check_map(ids, results)
        present, inverse = np.unique(ids, return_inverse=True)
        self._check_segments(present, results)
        if self.with_seg:
            category = {segment['id']: segment['category'] for segment in results['segments_info']}
            table = np.array([category.get(int(i), 255) for i in present], dtype=np.uint8)
            results['gt_seg_map'] = table[inverse].reshape(ids.shape)
            results['ignore_index'] = 255
        if self.with_mask:
            things = [segment['id'] for segment in results['segments_info'] if segment['is_thing']]
            results['gt_masks'] = BitmapMasks([(ids == i).astype(np.uint8) for i in things], *ids.shape)

    @staticmethod
    def _check_segments(present: np.ndarray, results: dict) -> None:
        """Refuse a map that has none of its segments; tell once of one that lacks some."""
        listed = {segment['id'] for segment in results['segments_info']}
        missing = sorted(listed.difference(present.tolist()))
        if not missing:
            return
        path, shown = results['seg_map_path'], ', '.join(map(str, present[present != 0][:3]))
        text = f'panoptic map {path!r} has no pixel of segment {missing[0]}, which the annotation file lists for it'
        if len(missing) == len(listed):
            raise UserValueError(f'{text}, nor of the others: it has {shown or "no segment"}. Is it of another file?')
        say_once('segments', f'{text}. This is said once.')


@TRANSFORMS.register_module()
class LoadProposals(BaseTransform):
    """Split ``proposals`` of the sample into an array (N, 4) and ``proposals_scores`` (N,).

    Args:
        num_max_proposals: Keep the first so many.
    """

    def __init__(self, num_max_proposals: int | None = None) -> None:
        self.num_max_proposals = num_max_proposals

    def transform(self, results: dict) -> dict:
        proposals = results['proposals']
        if isinstance(proposals, np.ndarray):  # (N, 4) or (N, 5) with a score
            proposals = dict(
                bboxes=proposals[:, :4], **(dict(scores=proposals[:, 4]) if proposals.shape[1] > 4 else {})
            )
        if not isinstance(proposals, (dict, InstanceData)):
            raise UserTypeError(f'proposals are a dict, InstanceData or an array, not {type(proposals).__name__}')
        boxes = np.asarray(proposals['bboxes'], dtype=np.float32)
        scores = proposals['scores'] if 'scores' in proposals else np.zeros(len(boxes))
        scores = np.asarray(scores, dtype=np.float32)
        if boxes.size == 0:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise UserValueError(f'the boxes of proposals must be (N, 4), not {boxes.shape}')
        if scores.shape != (len(boxes),):
            raise UserValueError(f'proposals have {len(boxes)} boxes, but scores of shape {scores.shape}')
        results['proposals'] = boxes[: self.num_max_proposals]
        results['proposals_scores'] = scores[: self.num_max_proposals]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_max_proposals={self.num_max_proposals})'


@TRANSFORMS.register_module()
class LoadEmptyAnnotations(BaseTransform):
    """Annotations of an image without instances (for unlabelled images)."""

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = False,
        with_seg: bool = False,
        seg_ignore_label: int = 255,
    ) -> None:
        self.with_bbox = with_bbox
        self.with_label = with_label
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.seg_ignore_label = seg_ignore_label

    def transform(self, results: dict) -> dict:
        if self.with_bbox:
            results['gt_bboxes'] = np.zeros((0, 4), dtype=np.float32)
            results['gt_ignore_flags'] = np.zeros((0,), dtype=bool)
        if self.with_label:
            results['gt_bboxes_labels'] = np.zeros((0,), dtype=np.int64)
        if self.with_mask:
            results['gt_masks'] = BitmapMasks([], *results['img_shape'])
        if self.with_seg:
            results['gt_seg_map'] = np.full(results['img_shape'], self.seg_ignore_label, dtype=np.uint8)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(with_bbox={self.with_bbox}, with_mask={self.with_mask})'


@TRANSFORMS.register_module()
class FilterAnnotations(BaseTransform):
    """Drop instances that are too small.

    Args:
        min_gt_bbox_wh: A box must be wider and higher than this, in pixels.
        min_gt_mask_area: A mask must cover at least so many pixels.
        by_box, by_mask: Which of the two rules hold (both: an instance must pass both).
        keep_empty: Return ``None``, so that the dataset draws another sample, when no instance is left.
    """

    def __init__(
        self,
        min_gt_bbox_wh: tuple[int, int] = (1, 1),
        min_gt_mask_area: int = 1,
        by_box: bool = True,
        by_mask: bool = False,
        keep_empty: bool = True,
    ) -> None:
        if not by_box and not by_mask:
            raise UserValueError('FilterAnnotations needs by_box or by_mask')
        self.min_gt_bbox_wh = min_gt_bbox_wh
        self.min_gt_mask_area = min_gt_mask_area
        self.by_box = by_box
        self.by_mask = by_mask
        self.keep_empty = keep_empty

    @autocast_box_type()
    def transform(self, results: dict) -> dict | None:
        boxes = results['gt_bboxes']
        if len(boxes) == 0:
            return results
        keep = np.ones(len(boxes), dtype=bool)
        if self.by_box:
            min_w, min_h = self.min_gt_bbox_wh
            keep &= ((boxes.widths > min_w) & (boxes.heights > min_h)).numpy()
        if self.by_mask:
            keep &= results['gt_masks'].areas >= self.min_gt_mask_area
        if not keep.any() and self.keep_empty:
            return None
        select_instances(results, keep)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_gt_bbox_wh={self.min_gt_bbox_wh}, min_gt_mask_area={self.min_gt_mask_area}, '
            f'by_box={self.by_box}, by_mask={self.by_mask}, keep_empty={self.keep_empty})'
        )

"""Made-up inputs for tests of detectors and heads, the same on every call."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

import mmdet
from mmdet.errors import UserFileError, UserValueError
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.utils.util_random import ensure_rng

SCALE_FACTOR = (1.1, 1.2)


def demo_mm_inputs(
    batch_size: int = 2,
    image_shapes: tuple[int, int, int] | list[tuple[int, int, int]] = (3, 128, 128),
    num_items: list[int] | None = None,
    num_classes: int = 10,
    sem_seg_output_strides: int = 1,
    with_mask: bool = False,
    with_semantic: bool = False,
    use_box_type: bool = False,
    device: str = 'cpu',
    texts: list[str] | None = None,
    custom_entities: bool = False,
) -> dict[str, list]:
    """A batch as the data loader gives it: ``inputs``, pictures (3, H, W), and ``data_samples``.

    Args:
        image_shapes: Channels, height and width of all pictures, or of each.
        num_items: Objects of each picture; one to nine by default.
        sem_seg_output_strides: Pixels per cell of the semantic map.
        texts: What detectors with language are asked to find in each picture.
    """
    rng = np.random.RandomState(0)
    batch = []
    for index, shape in enumerate(_for_each(image_shapes, batch_size, 'image_shapes')):
        picture = torch.from_numpy(rng.randint(0, 255, size=shape, dtype=np.uint8)).to(device)
        meta = dict(_meta(index, shape), border=[1, 1, 1, 1])
        if texts:
            meta.update(text=texts[index], custom_entities=custom_entities)
        sample = DetDataSample(metainfo=meta)
        count = _count(num_items, index, batch_size, rng)
        sample.gt_instances = _instances(rng, count, shape, with_mask, use_box_type)
        sample.gt_instances.labels = torch.from_numpy(rng.randint(1, num_classes, size=count)).long()
        sample.ignored_instances = _instances(rng, count, shape, False, use_box_type)
        if with_semantic:
            size = (1, *(side // sem_seg_output_strides for side in shape[1:]))
            sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(rng.randint(0, num_classes, size, dtype=np.uint8)))
        batch.append(dict(inputs=picture, data_samples=sample.to(device)))
    return pseudo_collate(batch)


def demo_track_inputs(
    batch_size: int = 1,
    num_frames: int = 2,
    key_frames_inds: list[int] | None = None,
    image_shapes: tuple[int, int, int] | list[tuple[int, int, int]] = (3, 128, 128),
    num_items: list[int] | None = None,
    num_classes: int = 1,
    with_mask: bool = False,
    with_semantic: bool = False,
) -> dict[str, list]:
    """A batch of videos: ``inputs``, frames (T, 3, H, W), and ``data_samples``, each a TrackDataSample.

    Args:
        key_frames_inds: Which frames are key frames; the others are reference frames.
        image_shapes, num_items: As in :func:`demo_mm_inputs`, for each video.
    """
    rng = np.random.RandomState(0)
    if key_frames_inds is not None and not set(key_frames_inds) < set(range(num_frames)):
        raise UserValueError(f'key_frames_inds must be some of {num_frames} frames, but not all, not {key_frames_inds}')
    batch = []
    for index, shape in enumerate(_for_each(image_shapes, batch_size, 'image_shapes')):
        frames = torch.from_numpy(rng.randint(0, 255, size=(num_frames, *shape), dtype=np.uint8))
        samples = []
        for frame in range(num_frames):
            sample = DetDataSample(metainfo=dict(_meta(index, shape), is_video_data=True, frame_id=frame))
            count = _count(num_items, index, batch_size, rng)
            sample.gt_instances = _instances(rng, count, shape, with_mask, False)
            sample.gt_instances.labels = torch.from_numpy(rng.randint(0, num_classes, size=count)).long()
            ids = rng.randint(100, num_classes + 100, size=count)
            sample.gt_instances.instances_ids = torch.from_numpy(ids).long()
            sample.ignored_instances = _instances(rng, count, shape, False, False)
            if with_semantic:
                seg = rng.randint(0, num_classes, (1, *shape[1:]), dtype=np.uint8)
                sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(seg))
            samples.append(sample)
        video = TrackDataSample()
        video.video_data_samples = samples
        if key_frames_inds is not None:
            others = [frame for frame in range(num_frames) if frame not in key_frames_inds]
            video.set_metainfo(dict(key_frames_inds=key_frames_inds, ref_frames_inds=others))
        batch.append(dict(inputs=frames, data_samples=video))
    return pseudo_collate(batch)


def demo_mm_proposals(
    image_shapes: Sequence[tuple[int, int, int]], num_proposals: int, device: str = 'cpu'
) -> list[InstanceData]:
    """Proposals for each picture of a shape (C, H, W): boxes, scores, and labels of 0."""
    rng = np.random.RandomState(0)
    proposals = []
    for shape in image_shapes:
        found = _instances(rng, num_proposals, shape, False, False)
        found.scores = torch.from_numpy(rng.rand(num_proposals)).float()
        found.labels = torch.zeros(num_proposals, dtype=torch.long)
        proposals.append(found.to(device))
    return proposals


def demo_mm_sampling_results(
    proposals_list: list[InstanceData],
    batch_gt_instances: list[InstanceData],
    batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    assigner_cfg: dict | None = None,
    sampler_cfg: dict | None = None,
    feats: Sequence[Tensor] | None = None,
) -> list:
    """Sampled proposals of each picture, as the head of the regions gets them.

    Args:
        assigner_cfg, sampler_cfg: Those of Faster R-CNN by default.
        feats: Maps (B, D, H, W) by level, for samplers that look at them.
    """
    if len(proposals_list) != len(batch_gt_instances):
        raise UserValueError(
            f'proposals of {len(proposals_list)} pictures, but {len(batch_gt_instances)} ground truths'
        )
    assigner = TASK_UTILS.build(
        assigner_cfg
        or dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, ignore_iof_thr=-1)
    )
    sampler = TASK_UTILS.build(
        sampler_cfg or dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True)
    )
    ignored = batch_gt_instances_ignore or [None] * len(batch_gt_instances)
    results = []
    for i, (proposals, truth) in enumerate(zip(proposals_list, batch_gt_instances, strict=True)):
        proposals.priors = proposals.pop('bboxes')
        assigned = assigner.assign(proposals, truth, ignored[i])
        own = None if feats is None else [level[i : i + 1] for level in feats]
        results.append(sampler.sample(assigned, proposals, truth, feats=own))
    return results


def random_boxes(num: int = 1, scale: float = 1, rng: int | np.random.RandomState | None = None) -> Tensor:
    """``num`` xyxy boxes in a square of side ``scale``, float32."""
    corners = ensure_rng(rng).rand(num, 2, 2).astype(np.float32)
    return torch.from_numpy(np.concatenate([corners.min(1), corners.max(1)], 1) * np.float32(scale))


def get_detector_cfg(fname: str) -> ConfigDict:
    """The model of a config, by its path below the folder of configs (``retinanet/retinanet_r18_fpn_1x_coco.py``)."""
    return copy.deepcopy(Config.fromfile(str(_config_folder() / fname)).model)


def get_roi_head_cfg(fname: str) -> ConfigDict:
    """The ``roi_head`` of the model of a config, with its training and test settings in it."""
    model = get_detector_cfg(fname)
    settings = {name: (model.get(name) or {}).get('rcnn') for name in ('train_cfg', 'test_cfg')}
    model.roi_head.update(settings)
    return model.roi_head


def replace_to_ceph(cfg: Config) -> None:
    """Let a config, in place, read its pictures and annotations from OpenMMLab's object storage."""
    folder = 's3://openmmlab/datasets/detection/'
    backend = dict(backend='petrel', path_mapping={'./data/': folder, 'data/': folder})
    loaders = ('LoadImageFromFile', 'LoadAnnotations', 'LoadPanopticAnnotations')
    for split in ('train', 'val', 'test'):
        for node in _dicts_in(cfg.get(f'{split}_dataloader') or {}):
            if node.get('type') in loaders:
                node['backend_args'] = backend
        for node in _dicts_in(cfg.get(f'{split}_evaluator') or {}):
            if node.get('type') == 'CocoPanopticMetric':
                node['backend_args'] = backend


def _dicts_in(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        for inner in list(value.values()):
            yield from _dicts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _dicts_in(inner)


def _config_folder() -> Path:
    """The configs of the checkout, or those that are installed with the package."""
    package = Path(mmdet.__file__).resolve().parent
    places = (package.parent / 'configs', package / '.mim' / 'configs')
    for place in places:
        if (place / '_base_').is_dir():
            return place
    raise UserFileError(f'there are no configs in {" or ".join(map(str, places))}')


def _for_each(value: Any, count: int, name: str) -> list:
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise UserValueError(f'{name} has {len(values)} entries for a batch of {count}')
    return values


def _count(num_items: list[int] | None, index: int, batch_size: int, rng: np.random.RandomState) -> int:
    return rng.randint(1, 10) if num_items is None else _for_each(num_items, batch_size, 'num_items')[index]


def _meta(index: int, shape: tuple[int, int, int]) -> dict:
    return dict(
        img_id=index,
        img_shape=shape[1:],
        ori_shape=shape[1:],
        filename='<demo>.png',
        scale_factor=np.array(SCALE_FACTOR),
        flip=False,
        flip_direction=None,
    )


def _instances(
    rng: np.random.RandomState, count: int, shape: tuple[int, int, int], with_mask: bool, use_box_type: bool
) -> InstanceData:
    height, width = shape[1:]
    center, size = rng.rand(2, count, 2)
    scale = np.array([width, height])
    corners = [((center + sign * size / 2) * scale).clip(0, scale) for sign in (-1, 1)]
    boxes = torch.from_numpy(np.concatenate(corners, 1)).float()
    instances = InstanceData(bboxes=HorizontalBoxes(boxes) if use_box_type else boxes)
    if with_mask:
        masks = rng.rand(count, height, width) > 0.3
        x1, y1, x2, y2 = boxes.int().numpy().T[:, :, None, None]
        rows, columns = np.arange(height)[:, None], np.arange(width)
        inside = (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
        instances.masks = BitmapMasks((masks & inside).astype(np.uint8), height, width)
    return instances

"""What is known and predicted about one image, passed between pipelines, models, metrics and visualizers."""

from __future__ import annotations

from operator import attrgetter
from typing import List, Optional  # noqa: UP035

from mmengine.structures import BaseDataElement, InstanceData, PixelData


def _data_field(name: str, kind: type, doc: str) -> property:
    """A property whose value is stored under ``_name`` and must be a ``kind``."""
    private = f'_{name}'

    def write(self, value):
        self.set_field(value, private, dtype=kind)

    def remove(self):
        BaseDataElement.__delattr__(self, private)

    return property(attrgetter(private), write, remove, doc)


class DetDataSample(BaseDataElement):
    """Annotations and predictions of one image.

    Meta information (``img_id, img_path, ori_shape, img_shape, scale_factor, flip, ...``) is reached by attribute.
    Boxes of ``gt_instances`` and ``proposals`` are in the coordinates of the network's input, those of a rescaled
    ``pred_instances`` in those of the original image.
    """

    proposals = _data_field('proposals', InstanceData, 'Region proposals: ``bboxes`` (N, 4), ``scores`` (N,).')
    gt_instances = _data_field(
        'gt_instances', InstanceData, 'Ground truths: ``bboxes`` (G, 4), ``labels`` (G,), ``masks`` where loaded.'
    )
    ignored_instances = _data_field(
        'ignored_instances', InstanceData, 'Ground truths that are neither to be found nor to be missed (crowds).'
    )
    pred_instances = _data_field(
        'pred_instances',
        InstanceData,
        'Detections: ``bboxes`` (N, 4), ``scores``, ``labels`` (N,), ``masks`` (N, h, w).',
    )
    pred_track_instances = _data_field(
        'pred_track_instances', InstanceData, 'Detections with ``instances_id`` (N,), which lasts from frame to frame.'
    )
    gt_panoptic_seg = _data_field(
        'gt_panoptic_seg', PixelData, '``sem_seg`` (1, h, w) holds ``label + instance * INSTANCE_OFFSET``.'
    )
    pred_panoptic_seg = _data_field('pred_panoptic_seg', PixelData, 'As ``gt_panoptic_seg``.')
    gt_sem_seg = _data_field('gt_sem_seg', PixelData, '``sem_seg`` (1, h, w) holds class indices.')
    pred_sem_seg = _data_field('pred_sem_seg', PixelData, 'As ``gt_sem_seg``.')


SampleList = List[DetDataSample]  # noqa: UP006
OptSampleList = Optional[SampleList]  # noqa: UP045

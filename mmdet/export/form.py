"""The form in which a detector is exported: pictures in, padded detections out.

Letters: B images, N places for detections, H and W the size of the network input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmdet.engine.deployment import deploy
from mmdet.errors import UserRuntimeError
from mmdet.ops.fixed_size import FixedSize, fixed_size
from mmdet.structures import DetDataSample

RESULTS: dict[str, Callable[[DetDataSample], Tensor]] = {
    'boxes': lambda found: found.pred_instances.bboxes,
    'scores': lambda found: found.pred_instances.scores,
    'labels': lambda found: found.pred_instances.labels,
    'masks': lambda found: found.pred_instances.masks,
    'panoptic': lambda found: found.pred_panoptic_seg.sem_seg,
    'semantic': lambda found: found.pred_sem_seg.sem_seg,
}
"""Where each output is in the one sample of a batch."""


class Exportable(nn.Module):
    """A detector as a function of one tensor.

    It computes what :meth:`predict` of the detector does for a batch whose pictures are all ``(H, W)``, by the same
    methods, in pixels of its input, and has the form for use that :func:`mmdet.engine.deploy` gives it. Places without
    a detection have a box of zeros, score 0 and label -1.

    Args:
        detector: In evaluation mode; it is copied, and may be in the form for use already.
        preprocess: Whether pictures are numbers from 0 to 255 in the channel order of files read by OpenCV, blue first,
            which are normalised here; else they are normalised already.
        nms: Whether overlapping detections are suppressed here. If not, all candidates of an image are results.
        options: How results are padded.
        size: Height and width of the input, if no other is to come.

    Raises:
        RuntimeError: the detector needs more than pictures.
    """

    def __init__(
        self,
        detector: nn.Module,
        preprocess: bool = True,
        nms: bool = True,
        options: FixedSize | None = None,
        size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if getattr(detector, 'needs_besides', None):
            raise UserRuntimeError(
                f'{type(detector).__name__} cannot be exported: it needs {detector.needs_besides} besides pictures, '
                'for which files have no input'
            )
        self.detector = copy.deepcopy(detector).eval()
        if not getattr(detector, 'is_deployed', False):
            deploy(self.detector, size)
        for parameter in self.detector.parameters():
            parameter.requires_grad_(False)
        self.options = options or FixedSize()
        self.preprocess = preprocess
        self.outside = None if nms else leave_suppression_out(self.detector, self.options)
        prepare = getattr(detector, 'data_preprocessor', None)
        self.reverse = bool(getattr(prepare, '_channel_conversion', False))
        normalises = bool(getattr(prepare, '_enable_normalize', False))
        for name in ('mean', 'std'):
            value = getattr(prepare, name).float().view(1, -1, 1, 1) if normalises else None
            self.register_buffer(name, value, persistent=False)

    @property
    def outputs(self) -> list[str]:
        """Names of the results."""
        fusion = getattr(self.detector, 'panoptic_fusion_head', None)
        if fusion is None:
            return ['boxes', 'scores', 'labels', *(['masks'] if self.masks else [])]
        if not hasattr(fusion, 'wanted'):
            return ['panoptic']
        names = dict(
            ins_results=['boxes', 'scores', 'labels', 'masks'], pan_results=['panoptic'], sem_results=['semantic']
        )
        return [name for key, part in names.items() if key in fusion.wanted() for name in part]

    @property
    def masks(self) -> dict[str, Any] | None:
        """How masks are to be read, as :class:`~mmdet.export.metadata.Metadata` has it; None where there are none."""
        names = ('roi_head', 'mask_head', 'panoptic_fusion_head', 'bbox_head')
        heads: list[Any] = [getattr(self.detector, name, None) for name in names]
        for head in heads:
            enlarged = 'probabilities' if getattr(head, 'with_mask', False) else getattr(head, 'enlarged', None)
            if enlarged is not None:
                cfg = head.test_cfg or {}
                of = 'box' if hasattr(head, 'with_mask') else 'picture'
                return dict(of=of, threshold=cfg.get('mask_thr_binary', cfg.get('mask_thr', 0.5)), enlarged=enlarged)
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.detector.parameters()).device

    @property
    def fill(self) -> list[float]:
        """Of each channel of the input, the value of padding."""
        value = float(getattr(self.detector.data_preprocessor, 'pad_value', 0) or 0)
        if self.mean is None or not self.preprocess:
            return [value] * 3
        raw = (value * self.std + self.mean).flatten().tolist()
        return raw[::-1] if self.reverse else raw

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` -> boxes ``(B, N, 4)`` xyxy, scores ``(B, N)``, labels ``(B, N)`` and, of detectors with
        masks, those; of panoptic ones a map ``(B, H, W)``."""
        if self.preprocess:
            images = self.normalise(images)
        size = images.shape[-2], images.shape[-1]
        sample = DetDataSample(metainfo=dict(scale_factor=(1.0, 1.0), img_id=0))
        for name in ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'):
            sample.set_field(size, name, field_type='metainfo')  # not copied, as a traced size cannot be
        with torch.no_grad(), fixed_size(self.options):
            found = self.detector(images, [sample], mode='predict')[0]
        return tuple(RESULTS[name](found) for name in self.outputs)

    def halve(self) -> None:
        """Compute in float16 what is not decoding of boxes; pictures and results stay float32."""
        self.detector.half()

    def normalise(self, images: Tensor) -> Tensor:
        """What the network takes, of raw pictures."""
        images = images.float()
        if self.reverse:
            images = images.flip(1)
        return images if self.mean is None else (images - self.mean) / self.std


def score_threshold(detector: nn.Module) -> float:
    """Detections score above it."""
    head: Any = getattr(detector, 'roi_head', None) or getattr(detector, 'bbox_head', None)
    return float((getattr(head, 'test_cfg', None) or {}).get('score_thr') or 0.0)


def leave_suppression_out(detector: nn.Module, options: FixedSize) -> dict[str, Any] | None:
    """Let the part that makes a detector's results keep all candidates; what it would have done, None if nothing."""
    head: Any = getattr(detector, 'roi_head', None) or getattr(detector, 'bbox_head', None)
    cfg = getattr(head, 'test_cfg', None)
    if not cfg or not cfg.get('nms'):
        return None
    head.test_cfg = ConfigDict({**copy.deepcopy(dict(cfg)), 'nms': dict(type='outside')})
    return {'max_per_img': options.max_num, **results_cfg_of(cfg)}


def results_cfg_of(cfg: Any) -> dict[str, Any]:
    """What a ``test_cfg`` says of the results."""
    found = {name: cfg[name] for name in ('score_thr', 'nms', 'max_per_img') if cfg.get(name) is not None}
    return copy.deepcopy({name: dict(value) if name == 'nms' else value for name, value in found.items()})

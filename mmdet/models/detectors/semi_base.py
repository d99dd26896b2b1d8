"""Detectors that learn from pictures with labels, and from what a teacher finds in pictures without."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mmdet.models.core import (
    filter_gt_instances,
    homographies,
    project_lists,
    rename_loss_dict,
    reweight_loss_dict,
)
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .base import BaseDetector


@MODELS.register_module()
class SemiBaseDetector(BaseDetector):
    """A student and a teacher of the same build; the teacher's detections are the student's pseudo labels.

    A batch has three branches: ``sup`` with labels, and ``unsup_teacher`` and ``unsup_student``, which are the same
    pictures, augmented weakly and strongly. ``MeanTeacherHook`` lets the teacher follow the student.

    Args:
        detector: Config of both.
        semi_train_cfg: ``freeze_teacher``, ``sup_weight``, ``unsup_weight``, ``cls_pseudo_thr`` and
            ``min_pseudo_bbox_wh``, the width and height that pseudo boxes must have in the student's picture.
        semi_test_cfg: ``predict_on``, ``forward_on`` and ``extract_feat_on``: 'teacher', as by default, or 'student'.
    """

    def __init__(
        self,
        detector: ConfigType,
        semi_train_cfg: OptConfigType = None,
        semi_test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.student = MODELS.build(copy.deepcopy(detector))
        self.teacher = MODELS.build(copy.deepcopy(detector))
        self.semi_train_cfg: Any = {} if semi_train_cfg is None else semi_train_cfg
        self.semi_test_cfg: Any = {} if semi_test_cfg is None else semi_test_cfg
        if self.semi_train_cfg.get('freeze_teacher', True):
            self.freeze(self.teacher)

    @property
    def num_labels(self) -> int | None:
        return self.student.num_labels

    @property
    def needed_truth(self) -> tuple[str, ...]:
        return self.student.needed_truth

    @property
    def semantic_labels(self) -> tuple[int, int] | None:
        return self.student.semantic_labels

    @staticmethod
    def freeze(model: nn.Module) -> None:
        """Let no parameter of ``model`` be trained."""
        model.eval()
        model.requires_grad_(False)

    def loss(self, multi_batch_inputs: dict[str, Tensor], multi_batch_data_samples: dict[str, SampleList]) -> dict:
        """Losses of both kinds of pictures, which the names begin with: ``sup_`` and ``unsup_``."""
        inputs, samples = multi_batch_inputs, multi_batch_data_samples
        losses = self.loss_by_gt_instances(inputs['sup'], samples['sup'])
        pseudo, batch_info = self.get_pseudo_instances(inputs['unsup_teacher'], samples['unsup_teacher'])
        samples['unsup_student'] = self.project_pseudo_instances(pseudo, samples['unsup_student'])
        losses.update(self.loss_by_pseudo_instances(inputs['unsup_student'], samples['unsup_student'], batch_info))
        return losses

    def loss_by_gt_instances(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of pictures with labels, times ``sup_weight``."""
        losses = self.student.loss(batch_inputs, batch_data_samples)
        return rename_loss_dict('sup_', reweight_loss_dict(losses, self.semi_train_cfg.get('sup_weight', 1.0)))

    def loss_by_pseudo_instances(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, batch_info: dict | None = None
    ) -> dict:
        """Losses of pictures with pseudo labels, those that score above ``cls_pseudo_thr``, times ``unsup_weight``.

        They count nothing where a batch has no such label.
        """
        samples = filter_gt_instances(batch_data_samples, score_thr=self.semi_train_cfg.get('cls_pseudo_thr'))
        losses = self.student.loss(batch_inputs, samples)
        found = any(len(sample.gt_instances) for sample in samples)
        weight = self.semi_train_cfg.get('unsup_weight', 1.0) if found else 0.0
        return rename_loss_dict('unsup_', reweight_loss_dict(losses, weight))

    @torch.no_grad()
    def get_pseudo_instances(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple[SampleList, dict]:
        """The samples with what the teacher finds as ``gt_instances``, in pixels of the loaded pictures.

        The second value is what the student's losses may need of the teacher.
        """
        self.teacher.eval()
        for sample in self.teacher.predict(batch_inputs, batch_data_samples, rescale=False):
            sample.gt_instances = sample.pred_instances
        return self._to_loaded_pictures(batch_data_samples), {}

    @staticmethod
    def _to_loaded_pictures(samples: SampleList) -> SampleList:
        back = torch.linalg.inv(homographies([sample.metainfo for sample in samples]))
        return _move(samples, back, [sample.ori_shape for sample in samples])

    def project_pseudo_instances(
        self, batch_pseudo_instances: SampleList, batch_data_samples: SampleList
    ) -> SampleList:
        """The student's samples with the pseudo labels of the teacher's, those that are not too small there."""
        for pseudo, sample in zip(batch_pseudo_instances, batch_data_samples):
            sample.gt_instances = pseudo.gt_instances.new()
        matrices = homographies([sample.metainfo for sample in batch_data_samples])
        _move(batch_data_samples, matrices, [sample.img_shape for sample in batch_data_samples])
        size = self.semi_train_cfg.get('min_pseudo_bbox_wh', (1e-2, 1e-2))
        return filter_gt_instances(batch_data_samples, wh_thr=size)

    def _chosen(self, purpose: str) -> BaseDetector:
        return self.teacher if self.semi_test_cfg.get(purpose, 'teacher') == 'teacher' else self.student

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> SampleList:
        return self._chosen('predict_on')(batch_inputs, batch_data_samples, mode='predict')

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        return self._chosen('forward_on')(batch_inputs, batch_data_samples, mode='tensor')

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        return self._chosen('extract_feat_on').extract_feat(batch_inputs)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Weights of a plain detector are those of both."""
        names = [name for name in state_dict if name.startswith(prefix)]
        if not any(name.startswith((f'{prefix}student.', f'{prefix}teacher.')) for name in names):
            for name in names:
                value = state_dict.pop(name)
                for part in ('student', 'teacher'):
                    state_dict[f'{prefix}{part}.{name.removeprefix(prefix)}'] = value
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _move(samples: SampleList, matrices: Tensor, shapes: list) -> SampleList:
    boxes = [sample.gt_instances.bboxes for sample in samples]
    for sample, moved in zip(samples, project_lists(boxes, matrices, shapes)):
        sample.gt_instances.bboxes = moved
    return samples

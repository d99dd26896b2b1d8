"""One-stage detectors that learn from a teacher: by its distributions (LD) or by its choice of positives (LAD)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit
from torch import Tensor, nn

from mmdet.errors import UserFileError
from mmdet.models.core import unpack_gt_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType
from mmdet.utils.checkpoint import register_loaders

from .single_stage import SingleStageDetector


@MODELS.register_module()
class KnowledgeDistillationSingleStageDetector(SingleStageDetector):
    """A detector whose head sees the outputs of a teacher (LD, arXiv:2102.12252).

    Args:
        teacher_config: Config of the teacher, or its path.
        teacher_ckpt: Its weights. They are read when the weights of the detector are initialised, or at the first loss.
        eval_teacher: Whether the teacher stays in evaluation mode.

    The teacher is no submodule: it has no part in the state dict, the optimizer or the gradient, but moves with the
    detector.
    """

    teacher_model: nn.Module

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        bbox_head: ConfigType,
        teacher_config: ConfigType | str | Path,
        teacher_ckpt: str | None = None,
        eval_teacher: bool = True,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor)
        self._take_teacher(self._build_teacher(teacher_config), teacher_ckpt, eval_teacher)

    def _build_teacher(self, config: ConfigType | str | Path) -> nn.Module:
        if isinstance(config, (str, Path)):
            if not Path(config).is_file():
                raise UserFileError(f"teacher_config='{config}': there is no such file, seen from {Path.cwd()}")
            config = Config.fromfile(config)
        return MODELS.build(copy.deepcopy(config['model']))

    def _take_teacher(self, teacher: nn.Module, checkpoint: str | None, eval_teacher: bool) -> None:
        self.eval_teacher = eval_teacher
        object.__setattr__(self, 'teacher_model', teacher)  # past the register of submodules
        self._teacher_ckpt: str | None = checkpoint
        teacher.requires_grad_(False)
        teacher.train(not eval_teacher)

    def _load_teacher(self) -> None:
        """Read the weights of the teacher, once."""
        if self._teacher_ckpt is not None:
            register_loaders()
            PretrainedInit(self._teacher_ckpt, map_location='cpu')(self.teacher_model)
            self._teacher_ckpt = None

    def init_weights(self) -> None:
        super().init_weights()
        self._load_teacher()

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        x = self.extract_feat(batch_inputs)
        self._load_teacher()
        with torch.no_grad():
            out_teacher = self.teacher_model.bbox_head(self.teacher_model.extract_feat(batch_inputs))
        return self.bbox_head.loss(x, out_teacher, batch_data_samples)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        self.teacher_model._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def train(self, mode: bool = True) -> Any:
        """Set the mode; the teacher's too unless ``eval_teacher``."""
        self.teacher_model.train(mode and not self.eval_teacher)
        return super().train(mode)


@MODELS.register_module()
class LAD(KnowledgeDistillationSingleStageDetector):
    """`Improving Object Detection by Label Assignment Distillation <https://arxiv.org/abs/2108.10520>`_

    Args:
        teacher_backbone, teacher_neck, teacher_bbox_head: Of the teacher, whose head chooses the positives.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: ConfigType,
        bbox_head: ConfigType,
        teacher_backbone: ConfigType,
        teacher_neck: OptConfigType,
        teacher_bbox_head: ConfigType,
        teacher_ckpt: str | None = None,
        eval_teacher: bool = True,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
    ) -> None:
        SingleStageDetector.__init__(self, backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor)
        parts = dict(backbone=teacher_backbone, neck=teacher_neck, bbox_head=teacher_bbox_head)
        teacher = SingleStageDetector(**copy.deepcopy(parts), train_cfg=train_cfg, test_cfg=test_cfg)
        self._take_teacher(teacher, teacher_ckpt, eval_teacher)

    @property
    def with_teacher_neck(self) -> bool:
        """Whether the teacher has a neck."""
        return getattr(self.teacher_model, 'neck', None) is not None

    def extract_teacher_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The teacher's feature maps."""
        return self.teacher_model.extract_feat(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        gt_instances, ignored, metas = unpack_gt_instances(batch_data_samples)
        self._load_teacher()
        with torch.no_grad():
            head = self.teacher_model.bbox_head
            chosen = head.get_label_assignment(
                *head(self.extract_teacher_feat(batch_inputs)), gt_instances, metas, ignored
            )
        return self.bbox_head.loss(self.extract_feat(batch_inputs), chosen, batch_data_samples)

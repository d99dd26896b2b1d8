from __future__ import annotations

import torch
from torch import Tensor

from mmdet.utils.util_random import ensure_rng


class AssignResult:
    """The assignment of one image: what ``BaseAssigner.assign`` returns.

    Args:
        num_gts: Ground truths of the image.
        gt_inds: ``(P,)``: -1 ignored, 0 background, i + 1 for ground truth i.
        max_overlaps: ``(P,)`` overlap with the assigned, or best, ground truth.
        labels: ``(P,)`` class of the assigned ground truth, -1 where there is none.
    """

    def __init__(self, num_gts: int, gt_inds: Tensor, max_overlaps: Tensor | None, labels: Tensor | None) -> None:
        self.num_gts, self.gt_inds, self.max_overlaps, self.labels = num_gts, gt_inds, max_overlaps, labels
        self._extra_properties: dict = {}

    @property
    def num_preds(self) -> int:
        """Priors of the image, P."""
        return len(self.gt_inds)

    def set_extra_property(self, key: str, value) -> None:
        """Keep a value of an own assigner, under a key that is not one of :attr:`info`."""
        assert key not in self.info
        self._extra_properties[key] = value

    def get_extra_property(self, key: str):
        """A value of an own assigner, None where there is none."""
        return self._extra_properties.get(key)

    @property
    def info(self) -> dict:
        """All that is known, the values of own assigners included."""
        return {
            'num_gts': self.num_gts,
            'num_preds': self.num_preds,
            'gt_inds': self.gt_inds,
            'max_overlaps': self.max_overlaps,
            'labels': self.labels,
            **self._extra_properties,
        }

    @classmethod
    def random(cls, **kwargs) -> AssignResult:
        """Any assignment, for tests.

        Args:
            num_preds, num_gts: Priors and ground truths, 0 to 15 and 0 to 7 of them by default.
            p_ignore, p_assigned: Shares of the ignored and, of the others, of the assigned priors; 0.3 and 0.5.
            p_use_label: Probability of labels, 0.5.
            num_classes: 3.
            rng: A ``numpy.random.RandomState``, a seed or None.
        """
        rng = ensure_rng(kwargs.get('rng'))
        num_gts, num_preds = kwargs.get('num_gts'), kwargs.get('num_preds')
        num_gts = int(rng.randint(0, 8)) if num_gts is None else num_gts
        num_preds = int(rng.randint(0, 16)) if num_preds is None else num_preds
        ignored, assigned = (
            torch.from_numpy(rng.rand(num_preds) < kwargs.get(name, share))
            for name, share in (('p_ignore', 0.3), ('p_assigned', 0.5))
        )
        assigned = assigned & ~ignored if num_gts else torch.zeros_like(assigned)
        gt_inds = torch.from_numpy(rng.randint(1, max(num_gts, 1) + 1, num_preds))
        gt_inds = torch.where(assigned, gt_inds, torch.where(ignored, -1, 0))
        overlaps = torch.from_numpy(rng.rand(num_preds).astype('float32')) * assigned
        labels = None
        if rng.rand() < kwargs.get('p_use_label', 0.5):
            classes = torch.from_numpy(rng.randint(0, max(kwargs.get('num_classes', 3), 1), num_gts))
            labels = torch.where(assigned, classes[(gt_inds - 1).clamp(min=0)] if num_gts else -1, -1)
        return cls(num_gts, gt_inds, overlaps, labels)

    def __repr__(self) -> str:
        parts = [f'num_gts={self.num_gts!r}']
        for name in ('gt_inds', 'max_overlaps', 'labels'):
            value = getattr(self, name)
            parts.append(f'{name}={None if value is None else f"{name}.shape={tuple(value.shape)}"}')
        return f'<AssignResult({", ".join(parts)})>'

    def add_gt_(self, gt_labels: Tensor) -> None:
        """Put the ground truths themselves in front, each assigned to itself."""
        assert self.max_overlaps is not None and self.labels is not None
        own = torch.arange(1, len(gt_labels) + 1, dtype=torch.long, device=gt_labels.device)
        self.gt_inds = torch.cat([own, self.gt_inds])
        self.max_overlaps = torch.cat([self.max_overlaps.new_ones(len(own)), self.max_overlaps])
        self.labels = torch.cat([gt_labels, self.labels])

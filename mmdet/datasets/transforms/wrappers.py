"""Transforms made of transforms."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from mmcv.transforms import BaseTransform, Compose, RandomChoice
from mmcv.transforms.utils import cache_random_params, cache_randomness

from mmdet.errors import UserKeyError, UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import BaseBoxes

from .colorspace import level_to_mag

__all__ = [
    'AutoAugment',
    'MultiBranch',
    'ProposalBroadcaster',
    'RandAugment',
    'RandomOrder',
    'level_to_mag',
    'policies_v0',
]


def _compose(transforms: dict | Callable | list) -> Compose:
    transforms = transforms if isinstance(transforms, (list, tuple)) else [transforms]
    return Compose([TRANSFORMS.build(x) if isinstance(x, dict) else x for x in transforms])


@TRANSFORMS.register_module()
class MultiBranch(BaseTransform):
    """One sample through several pipelines (semi-supervised learning): ``{key: {branch: value}}``.

    Args:
        branch_field: All branches of the batch; those that this sample has no pipeline for are ``None``.
        branch_pipelines: Pipeline of each branch; a branch that ``branch_field`` lacks is packed too.
    """

    def __init__(self, branch_field: list[str], **branch_pipelines) -> None:
        self.branch_field = branch_field
        self.branch_pipelines = {branch: _compose(pipeline) for branch, pipeline in branch_pipelines.items()}

    def transform(self, results: dict) -> dict | None:
        packed: dict[str, dict] = {'inputs': {}, 'data_samples': {}}
        for branch in dict.fromkeys((*self.branch_field, *self.branch_pipelines)):
            outputs = dict(inputs=None, data_samples=None)
            if branch in self.branch_pipelines:
                branch_results = self.branch_pipelines[branch](copy.deepcopy(results))
                if branch_results is None:
                    return None
                outputs.update(branch_results)
            for key, value in outputs.items():
                packed.setdefault(key, {})[branch] = value
        return packed

    def __repr__(self) -> str:
        return f'{type(self).__name__}(branch_pipelines={list(self.branch_pipelines)})'


@TRANSFORMS.register_module()
class RandomOrder(Compose):
    """Transforms in a random order."""

    def __init__(self, transforms: dict | Callable | list) -> None:
        super().__init__(list(_compose(transforms)))

    @cache_randomness
    def _random_permutation(self) -> np.ndarray:
        return np.random.permutation(len(self.transforms))

    def transform(self, results: dict) -> dict | None:
        for index in self._random_permutation():
            results = self.transforms[index](results)
            if results is None:
                return None
        return results


@TRANSFORMS.register_module()
class ProposalBroadcaster(BaseTransform):
    """Let ``proposals`` go the same way through the transforms as the ground truth."""

    def __init__(self, transforms: list[dict | Callable] = []) -> None:
        self.transforms = _compose(transforms)

    def transform(self, results: dict) -> dict:
        if results.get('proposals') is None:
            raise UserKeyError(
                'ProposalBroadcaster needs proposals: set proposal_file and load them with LoadProposals'
            )
        return self._process_output(self._apply_transforms(self._process_input(results)))

    def _process_input(self, data: dict) -> list[dict]:
        """The sample without proposals, and one that has them for boxes."""
        as_boxes = dict(data, gt_bboxes=data.pop('proposals'))
        for key in ('proposals', 'gt_bboxes_labels', 'gt_masks', 'gt_seg_map', 'gt_ignore_flags', 'gt_keypoints'):
            as_boxes.pop(key, None)
        return [data, as_boxes]

    def _apply_transforms(self, inputs: list[dict]) -> list[dict]:
        """Both through the transforms, with the same random numbers."""
        with cache_random_params(self.transforms):
            moved = [self.transforms(sample) for sample in reversed(inputs)]
        return moved[::-1]

    def _process_output(self, output_scatters: list[dict]) -> dict:
        """The sample with its proposals."""
        results, moved = output_scatters
        boxes = moved['gt_bboxes']
        results['proposals'] = boxes.numpy() if isinstance(boxes, BaseBoxes) else boxes
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'


def _policies(table: list[tuple[tuple[str, float, int], ...]]) -> list[list[dict | Callable]]:
    return [[dict(type=name, prob=prob, level=level) for name, prob, level in policy] for policy in table]


# arXiv:1906.11172, policy v0 of the authors' code
AUTOAUG_POLICIES_V0: list[list[dict | Callable]] = _policies(
    [
        (('Equalize', 0.8, 1), ('ShearY', 0.8, 4)),
        (('Color', 0.4, 9), ('Equalize', 0.6, 3)),
        (('Color', 0.4, 1), ('Rotate', 0.6, 8)),
        (('Solarize', 0.8, 3), ('Equalize', 0.4, 7)),
        (('Solarize', 0.4, 2), ('Solarize', 0.6, 2)),
        (('Color', 0.2, 0), ('Equalize', 0.8, 8)),
        (('Equalize', 0.4, 8), ('SolarizeAdd', 0.8, 3)),
        (('ShearX', 0.2, 9), ('Rotate', 0.6, 8)),
        (('Color', 0.6, 1), ('Equalize', 1.0, 2)),
        (('Invert', 0.4, 9), ('Rotate', 0.6, 0)),
        (('Equalize', 1.0, 9), ('ShearY', 0.6, 3)),
        (('Color', 0.4, 7), ('Equalize', 0.6, 0)),
        (('Posterize', 0.4, 6), ('AutoContrast', 0.4, 7)),
        (('Solarize', 0.6, 8), ('Color', 0.6, 9)),
        (('Solarize', 0.2, 4), ('Rotate', 0.8, 9)),
        (('Rotate', 1.0, 7), ('TranslateY', 0.8, 9)),
        (('ShearX', 0.0, 0), ('Solarize', 0.8, 4)),
        (('ShearY', 0.8, 0), ('Color', 0.6, 4)),
        (('Color', 1.0, 0), ('Rotate', 0.6, 2)),
        (('Equalize', 0.8, 4), ('Equalize', 0.0, 8)),
        (('Equalize', 1.0, 4), ('AutoContrast', 0.6, 2)),
        (('ShearY', 0.4, 7), ('SolarizeAdd', 0.6, 7)),
        (('Posterize', 0.8, 2), ('Solarize', 0.6, 10)),
        (('Solarize', 0.6, 8), ('Equalize', 0.6, 1)),
        (('Color', 0.8, 6), ('Rotate', 0.4, 5)),
    ]
)


def policies_v0() -> list[list[dict | Callable]]:
    """The policy that was learned on COCO: one of 25 pairs of transforms."""
    return copy.deepcopy(AUTOAUG_POLICIES_V0)


_RANDAUG_NAMES = (
    *('AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize', 'SolarizeAdd', 'Color'),
    *('Contrast', 'Brightness', 'Sharpness', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY'),
)
RANDAUG_SPACE: list[dict | list] = [[dict(type=name)] for name in _RANDAUG_NAMES]


@TRANSFORMS.register_module()
class AutoAugment(RandomChoice):
    """One of several pipelines (arXiv:1906.11172).

    Args:
        policies: Pipelines; by default the policy that was learned on COCO.
        prob: Probability of each.
    """

    def __init__(self, policies: list[list[dict | Callable]] = AUTOAUG_POLICIES_V0, prob: list[float] | None = None):
        if not policies or not all(policies):
            raise UserValueError('AutoAugment needs policies, each with at least one transform')
        super().__init__([_compose(policy) for policy in policies], prob)
        self.policies = policies

    def __repr__(self) -> str:
        return f'{type(self).__name__}(policies={self.policies}, prob={self.prob})'


@TRANSFORMS.register_module()
class RandAugment(RandomChoice):
    """``aug_num`` different pipelines of ``aug_space``, one after another (arXiv:1909.13719)."""

    def __init__(
        self, aug_space: list[dict | list] = RANDAUG_SPACE, aug_num: int = 2, prob: list[float] | None = None
    ) -> None:
        super().__init__([_compose(space) for space in aug_space], prob)
        if not 0 < aug_num <= len(aug_space):
            raise UserValueError(
                f'aug_num must be from 1 to the {len(aug_space)} transforms of aug_space, not {aug_num}'
            )
        self.aug_space = aug_space
        self.aug_num = aug_num

    @cache_randomness
    def random_pipeline_index(self) -> np.ndarray:
        return np.random.choice(len(self.transforms), self.aug_num, p=self.prob, replace=False)

    def transform(self, results: dict) -> dict | None:
        for index in self.random_pipeline_index():
            results = self.transforms[index](results)
            if results is None:
                return None
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(aug_space={self.aug_space}, aug_num={self.aug_num}, prob={self.prob})'

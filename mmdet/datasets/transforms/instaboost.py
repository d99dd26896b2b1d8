"""InstaBoost (arXiv:1908.07801)."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmdet.errors import UserImportError, UserValueError
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class InstaBoost(BaseTransform):
    """Pastes each instance elsewhere in its picture, by the package ``instaboostfast``.

    It changes ``instances`` of the data set, so it stands before ``LoadAnnotations``. Instances to ignore stay as they
    are, and those that have lost their area are left out.

    Args:
        action_candidate: What may be done with an instance, each with its probability in ``action_prob``.
        scale: Range of the factor on the size.
        dx, dy: An instance moves at most its width, or height, divided by these.
        theta: Range of the rotation in degrees.
        color_prob: Probability of another colour.
        hflag: Choose the place by a heat map of how similar its surroundings are.
        aug_ratio: Probability that anything happens to a picture.
    """

    def __init__(
        self,
        action_candidate: tuple = ('normal', 'horizontal', 'skip'),
        action_prob: tuple = (1, 0, 0),
        scale: tuple = (0.8, 1.2),
        dx: int = 15,
        dy: int = 15,
        theta: tuple = (-1, 1),
        color_prob: float = 0.5,
        hflag: bool = False,
        aug_ratio: float = 0.5,
    ) -> None:
        self.cfg = _library().InstaBoostConfig(action_candidate, action_prob, scale, dx, dy, theta, color_prob, hflag)
        self.aug_ratio = aug_ratio

    def _load_anns(self, results: dict) -> tuple[list[dict], list[dict]]:
        """The instances as COCO writes them, and those to ignore as they are."""
        kept = [instance for instance in results['instances'] if not instance['ignore_flag']]
        bare = next((instance for instance in kept if 'mask' not in instance), None)
        if bare is not None:
            raise UserValueError(f'InstaBoost needs a mask for each instance; {results.get("img_path")} has {bare}')
        anns = []
        for instance in kept:
            x1, y1, x2, y2 = instance['bbox']
            box = [x1, y1, x2 - x1, y2 - y1]
            anns.append(dict(category_id=instance['bbox_label'], segmentation=instance['mask'], bbox=box))
        return anns, [instance for instance in results['instances'] if instance['ignore_flag']]

    def _parse_anns(self, results: dict, anns: list[dict], ignore_anns: list[dict], img: np.ndarray) -> dict:
        """The sample with another picture and instances."""
        instances = []
        for ann in anns:
            x, y, width, height = ann['bbox']
            if width > 0 and height > 0:
                box, mask = [x, y, x + width, y + height], ann['segmentation']
                instances.append(dict(bbox=box, bbox_label=ann['category_id'], mask=mask, ignore_flag=0))
        results.update(img=img, img_shape=img.shape[:2], instances=[*instances, *ignore_anns])
        return results

    def transform(self, results: dict) -> dict:
        if not results.get('instances') or np.random.rand() >= self.aug_ratio:
            return results
        anns, ignored = self._load_anns(results)
        img = results['img']
        anns, new = _library().get_new_data(anns, img.astype(np.uint8), self.cfg, background=None)
        return self._parse_anns(results, anns, ignored, new.astype(img.dtype))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(aug_ratio={self.aug_ratio})'


def _library() -> Any:
    try:
        import instaboostfast
    except ImportError as error:
        raise UserImportError(f'InstaBoost needs instaboostfast: pip install instaboostfast ({error})') from error
    return instaboostfast

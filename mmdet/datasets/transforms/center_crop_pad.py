from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmdet.errors import UserValueError
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.bbox.box_type import autocast_box_type

from .fields import move_keypoints, record_homography, select_instances, set_image, translation


@TRANSFORMS.register_module()
class RandomCenterCropPad(BaseTransform):
    """Crop around a random centre and pad where the window leaves the image (CornerNet, CenterNet).

    In training the window is ``crop_size`` times one of ``ratios``, its centre at least ``border`` from the edge if the
    image is large enough, and it holds the centre of a box. In testing the whole image is padded around its centre.

    Args:
        crop_size: (width, height).
        ratios: Factors of ``crop_size``.
        border: Distance of the centre from the edge, halved until it fits.
        mean, std, to_rgb: Those of the data preprocessor: the padding is the mean.
        test_mode: Pad only.
        test_pad_mode: ``('logical_or', n)``: sides become ``side | n``; ``('size_divisor', n)``: multiples of n.
        test_pad_add_pix: Added to the sides for ``logical_or``.
        bbox_clip_border: Clip boxes to the window.
    """

    def __init__(
        self,
        crop_size: tuple[int, int] | None = None,
        ratios: Sequence[float] | None = (0.9, 1.0, 1.1),
        border: int | None = 128,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        to_rgb: bool | None = None,
        test_mode: bool = False,
        test_pad_mode: tuple[str, int] | None = ('logical_or', 127),
        test_pad_add_pix: int = 0,
        bbox_clip_border: bool = True,
    ) -> None:
        if mean is None or std is None or to_rgb is None:
            raise UserValueError('RandomCenterCropPad needs mean, std and to_rgb: the padding is the mean')
        if test_mode:
            if crop_size is not None or ratios is not None or border is not None:
                raise UserValueError('RandomCenterCropPad takes no crop_size, ratios and border with test_mode=True')
            if not test_pad_mode or test_pad_mode[0] not in ('logical_or', 'size_divisor'):
                raise UserValueError(
                    f"test_pad_mode must be ('logical_or' or 'size_divisor', number), not {test_pad_mode!r}"
                )
        elif crop_size is None or min(crop_size) <= 0:
            raise UserValueError(f'crop_size must be two positive integers, not {crop_size!r}')
        elif ratios is None or border is None:
            raise UserValueError(f'RandomCenterCropPad needs ratios ({ratios}) and border ({border}) in training')
        self.crop_size = crop_size
        self.ratios = ratios
        self.border = border
        self.mean = mean[::-1] if to_rgb else mean
        self.std = std[::-1] if to_rgb else std
        self.to_rgb = to_rgb
        self.test_mode = test_mode
        self.test_pad_mode = test_pad_mode
        self.test_pad_add_pix = test_pad_add_pix
        self.bbox_clip_border = bbox_clip_border

    @staticmethod
    def _get_border(border: int, size: int) -> int:
        """``border`` divided by the power of two that leaves room for a centre."""
        k = 2 * border / size
        power = pow(2, np.ceil(np.log2(np.ceil(k))) + (k == int(k)))
        return int(border // power)

    @cache_randomness
    def _random_window(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the window."""
        assert self.ratios is not None and self.crop_size is not None  # the test mode draws no window
        ratio = np.random.choice(self.ratios)
        return int(self.crop_size[1] * ratio), int(self.crop_size[0] * ratio)

    def _crop_image_and_paste(self, image: np.ndarray, center: tuple[int, int], size: tuple[int, int]):
        """The window of ``size`` around ``center`` (y, x), where the image lies in it (y1, y2, x1, x2), and the part
        of the image that it shows (x1, y1, x2, y2)."""
        (cy, cx), (target_h, target_w) = center, size
        height, width = image.shape[:2]
        x1, x2 = max(0, cx - target_w // 2), min(cx + target_w // 2, width)
        y1, y2 = max(0, cy - target_h // 2), min(cy + target_h // 2, height)
        top, left = target_h // 2 - (cy - y1), target_w // 2 - (cx - x1)
        window = np.empty((target_h, target_w, image.shape[2]), dtype=image.dtype)
        window[...] = self.mean
        window[top : top + y2 - y1, left : left + x2 - x1] = image[y1:y2, x1:x2]
        place = np.array([top, top + y2 - y1, left, left + x2 - x1], dtype=np.float32)
        return window, place, np.array([x1, y1, x2, y2])

    @staticmethod
    def _filter_boxes(patch: np.ndarray, boxes: HorizontalBoxes) -> np.ndarray:
        """``(N,)`` bool: which boxes have their centre in the patch (x1, y1, x2, y2)."""
        centers = boxes.centers.numpy()
        return ((centers > patch[:2]) & (centers < patch[2:])).all(-1)

    def _train_aug(self, results: dict) -> dict:
        img, boxes = results['img'], results['gt_bboxes']
        height, width = img.shape[:2]
        assert self.border is not None
        border_y, border_x = self._get_border(self.border, height), self._get_border(self.border, width)
        while True:
            size = self._random_window(height, width)
            for _ in range(50):
                cx = np.random.randint(border_x, width - border_x)
                cy = np.random.randint(border_y, height - border_y)
                window, place, patch = self._crop_image_and_paste(img, (cy, cx), size)
                keep = self._filter_boxes(patch, boxes)
                if keep.any() or not len(boxes):
                    return self._moved(results, window, keep, place[2] - patch[0], place[0] - patch[1])

    def _moved(self, results: dict, window: np.ndarray, keep: np.ndarray, x: float, y: float) -> dict:
        set_image(results, window)
        select_instances(results, keep)
        boxes = results['gt_bboxes']
        boxes.translate_([float(x), float(y)])
        if self.bbox_clip_border:
            boxes.clip_(window.shape[:2])
        select_instances(results, boxes.is_inside(window.shape[:2]).numpy())
        move_keypoints(results, translation(x, y))
        record_homography(results, translation(x, y))
        return results

    def _test_aug(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        assert self.test_pad_mode is not None
        mode, value = self.test_pad_mode
        if mode == 'logical_or':
            size = (height | value) + self.test_pad_add_pix, (width | value) + self.test_pad_add_pix
        else:
            size = -(-height // value) * value, -(-width // value) * value
        window, place, _ = self._crop_image_and_paste(results['img'], (height // 2, width // 2), size)
        set_image(results, window)
        results['border'] = place
        return results

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        img = results['img']
        if img.dtype != np.float32:
            raise UserValueError('RandomCenterCropPad needs a float32 image: LoadImageFromFile(to_float32=True)')
        if img.ndim != 3 or img.shape[2] != len(self.mean):
            raise UserValueError(
                f'RandomCenterCropPad has a mean of {len(self.mean)} channels, the image is {img.shape}'
            )
        return self._test_aug(results) if self.test_mode else self._train_aug(results)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, ratios={self.ratios}, border={self.border}, '
            f'test_mode={self.test_mode}, test_pad_mode={self.test_pad_mode}, '
            f'bbox_clip_border={self.bbox_clip_border})'
        )

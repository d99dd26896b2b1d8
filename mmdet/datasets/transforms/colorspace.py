"""Augmentations of colour: those of AutoAugment (arXiv:1906.11172), SSD's and YOLOX's."""

from __future__ import annotations

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mmdet.errors import UserValueError
from mmdet.registry import TRANSFORMS

_MAX_LEVEL = 10


def level_to_mag(level: int | None, min_mag: float, max_mag: float) -> float:
    """A magnitude at ``level`` of 10, or a random one, to one decimal."""
    part = np.random.rand() if level is None else level / _MAX_LEVEL
    return round(part * (max_mag - min_mag) + min_mag, 1)


@TRANSFORMS.register_module()
class ColorTransform(BaseTransform):
    """Base of the colour augmentations: the identity.

    Args:
        prob: Probability of doing it.
        level: Strength from 0 to 10 between ``min_mag`` and ``max_mag``; random without one.
    """

    def __init__(self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.1, max_mag: float = 1.9) -> None:
        if not 0 <= prob <= 1:
            raise UserValueError(f'prob must be from 0 to 1, not {prob}')
        if level is not None and not 0 <= level <= _MAX_LEVEL:
            raise UserValueError(f'level must be from 0 to {_MAX_LEVEL}, not {level}')
        if min_mag > max_mag:
            raise UserValueError(f'min_mag={min_mag} is above max_mag={max_mag}')
        self.prob = prob
        self.level = level
        self.min_mag = min_mag
        self.max_mag = max_mag

    @cache_randomness
    def _random_disable(self) -> bool:
        return np.random.rand() > self.prob

    @cache_randomness
    def _get_mag(self) -> float:
        return level_to_mag(self.level, self.min_mag, self.max_mag)

    def change(self, img: np.ndarray, mag: float) -> np.ndarray:
        """The image after the transform at a magnitude."""
        return img

    def _transform_img(self, results: dict, mag: float) -> None:
        img = results['img']
        results['img'] = self.change(img, mag).astype(img.dtype)

    def transform(self, results: dict) -> dict:
        if not self._random_disable():
            self._transform_img(results, self._get_mag())
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, level={self.level}, min_mag={self.min_mag}, '
            f'max_mag={self.max_mag})'
        )


@TRANSFORMS.register_module()
class Color(ColorTransform):
    """Blend with the grey image: 0 grey, 1 unchanged."""

    def change(self, img, mag):
        return mmcv.adjust_color(img, mag)


@TRANSFORMS.register_module()
class Brightness(ColorTransform):
    """Blend with black: 0 black, 1 unchanged."""

    def change(self, img, mag):
        return mmcv.adjust_brightness(img, mag)


@TRANSFORMS.register_module()
class Contrast(ColorTransform):
    """Blend with the mean grey: 0 flat, 1 unchanged."""

    def change(self, img, mag):
        return mmcv.adjust_contrast(img, mag)


@TRANSFORMS.register_module()
class Sharpness(ColorTransform):
    """Blend with the blurred image: 0 blurred, 1 unchanged, 2 sharpened."""

    def change(self, img, mag):
        return mmcv.adjust_sharpness(img, mag)


@TRANSFORMS.register_module()
class Solarize(ColorTransform):
    """Invert the values from the magnitude on."""

    def __init__(self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 256.0):
        super().__init__(prob, level, min_mag, max_mag)

    def change(self, img, mag):
        return mmcv.solarize(img, min(mag, 255))


@TRANSFORMS.register_module()
class SolarizeAdd(ColorTransform):
    """Add the magnitude to the values below 128."""

    def __init__(self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 110.0):
        super().__init__(prob, level, min_mag, max_mag)

    def change(self, img, mag):
        brighter = np.minimum(img.astype(np.float32) + mag, 255).astype(img.dtype)
        return np.where(img < 128, brighter, img)


@TRANSFORMS.register_module()
class Posterize(ColorTransform):
    """Keep so many bits of each value, rounded up."""

    def __init__(self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 4.0):
        super().__init__(prob, level, min_mag, max_mag)

    def change(self, img, mag):
        return mmcv.posterize(img, int(np.ceil(mag)))


class _WithoutMagnitude(ColorTransform):
    def __init__(self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.1, max_mag: float = 1.9) -> None:
        super().__init__(prob, level, min_mag, max_mag)

    def _get_mag(self) -> float:
        return 0.0


@TRANSFORMS.register_module()
class Equalize(_WithoutMagnitude):
    """Flatten the histogram of each channel."""

    def change(self, img, mag):
        return mmcv.imequalize(img)


@TRANSFORMS.register_module()
class AutoContrast(_WithoutMagnitude):
    """Stretch each channel to the full range."""

    def change(self, img, mag):
        return mmcv.auto_contrast(img)


@TRANSFORMS.register_module()
class Invert(_WithoutMagnitude):
    """The negative."""

    def change(self, img, mag):
        return mmcv.iminvert(img)


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """Random brightness, contrast, saturation, hue and channel order (SSD, arXiv:1512.02325).

    The image becomes float32. Each is done with probability 0.5; contrast comes before or after saturation and hue.
    """

    def __init__(
        self,
        brightness_delta: int = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: int = 18,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_lower, self.contrast_upper = contrast_range
        self.saturation_lower, self.saturation_upper = saturation_range
        self.hue_delta = hue_delta

    @cache_randomness
    def _random_flags(self) -> tuple:
        mode, brightness, contrast, saturation, hue, swap = (np.random.randint(2) for _ in range(6))
        return (
            mode,
            brightness,
            contrast,
            saturation,
            hue,
            swap,
            np.random.uniform(-self.brightness_delta, self.brightness_delta),
            np.random.uniform(self.contrast_lower, self.contrast_upper),
            np.random.uniform(self.saturation_lower, self.saturation_upper),
            np.random.uniform(-self.hue_delta, self.hue_delta),
            np.random.permutation(3),
        )

    def transform(self, results: dict) -> dict:
        img = results['img'].astype(np.float32)
        mode, brightness, contrast, saturation, hue, swap, delta, alpha, factor, turn, order = self._random_flags()
        if brightness:
            img += delta
        if contrast and mode == 1:
            img *= alpha
        if saturation or hue:
            img = mmcv.bgr2hsv(img)
            if saturation:
                img[..., 1] *= factor
                if factor > 1:
                    img[..., 1] = img[..., 1].clip(0, 1)
            if hue:
                img[..., 0] += turn
                img[..., 0][img[..., 0] > 360] -= 360
                img[..., 0][img[..., 0] < 0] += 360
            img = mmcv.hsv2bgr(img)
        if contrast and mode == 0:
            img *= alpha
        if swap:
            img = img[..., order]
        results['img'] = img
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness_delta={self.brightness_delta}, '
            f'contrast_range={(self.contrast_lower, self.contrast_upper)}, '
            f'saturation_range={(self.saturation_lower, self.saturation_upper)}, hue_delta={self.hue_delta})'
        )


@TRANSFORMS.register_module()
class YOLOXHSVRandomAug(BaseTransform):
    """Random shifts of hue, saturation and value (YOLOX), each with probability 0.5."""

    def __init__(self, hue_delta: int = 5, saturation_delta: int = 30, value_delta: int = 30) -> None:
        self.hue_delta = hue_delta
        self.saturation_delta = saturation_delta
        self.value_delta = value_delta

    @cache_randomness
    def _get_hsv_gains(self) -> np.ndarray:
        gains = np.random.uniform(-1, 1, 3) * [self.hue_delta, self.saturation_delta, self.value_delta]
        gains *= np.random.randint(0, 2, 3)
        return gains.astype(np.int16)

    def transform(self, results: dict) -> dict:
        img = results['img']
        hue, saturation, value = self._get_hsv_gains().tolist()
        levels = np.arange(256)
        table = np.zeros((256, 1, 3), dtype=np.uint8)  # all three shifts are functions of one byte
        table[:, 0, 0] = (levels + hue) % 180
        table[:, 0, 1] = (levels + saturation).clip(0, 255)
        table[:, 0, 2] = (levels + value).clip(0, 255)
        hsv = cv2.cvtColor(img.astype(np.uint8, copy=False), cv2.COLOR_BGR2HSV)
        results['img'] = cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2BGR).astype(img.dtype, copy=False)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(hue_delta={self.hue_delta}, saturation_delta={self.saturation_delta}, '
            f'value_delta={self.value_delta})'
        )

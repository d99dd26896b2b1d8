from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Image = TypeVar('Image', np.ndarray, Tensor)


def imrenormalize(img: Image, img_norm_cfg: dict, new_img_norm_cfg: dict) -> Image:
    """Change the normalization of a picture.

    Args:
        img: (H, W, 3), or (1, 3, H, W) as a tensor.
        img_norm_cfg: What was done: ``mean`` and ``std``, in the order of the channels of ``img``, and ``to_rgb``,
            whether the channels were turned from BGR before.
        new_img_norm_cfg: What is wanted, likewise.
    """
    old, new = (_affine(cfg) for cfg in (img_norm_cfg, new_img_norm_cfg))
    turned = img_norm_cfg.get('to_rgb', True) != new_img_norm_cfg.get('to_rgb', True)
    if isinstance(img, Tensor):
        mean, std, new_mean, new_std = (
            torch.as_tensor(v, dtype=img.dtype, device=img.device)[:, None, None] for v in (*old, *new)
        )
        pixels = img * std + mean
        return ((pixels.flip(-3) if turned else pixels) - new_mean) / new_std
    pixels = img * old[1] + old[0]
    pixels = pixels[..., ::-1] if turned else pixels
    return ((pixels - new[0]) / new[1]).astype(img.dtype)


def _affine(cfg: dict) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(cfg['mean'], dtype=np.float64), np.asarray(cfg['std'], dtype=np.float64)

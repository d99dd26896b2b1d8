from __future__ import annotations

import inspect

from mmengine.logging import print_log

from mmdet.errors import UserValueError


def get_caller_name() -> str:
    """Name of the function that calls the function that asks, with its class if it is a method."""
    frame = inspect.currentframe().f_back.f_back
    name = frame.f_code.co_name
    owner = frame.f_locals.get('self')
    return name if owner is None else f'{type(owner).__name__}.{name}'


def log_img_scale(img_scale: tuple[int, int], shape_order: str = 'hw', skip_square: bool = False) -> bool:
    """Log how an image size was read, since some transforms take (h, w) and others (w, h).

    Returns:
        Whether something was logged: nothing is for squares with ``skip_square``.
    """
    if shape_order not in ('hw', 'wh'):
        raise UserValueError(f'shape_order must be hw or wh, not {shape_order!r}')
    height, width = img_scale if shape_order == 'hw' else img_scale[::-1]
    if skip_square and height == width:
        return False
    print_log(f'image shape: height={height}, width={width} in {get_caller_name()}', logger='current')
    return True

from __future__ import annotations

from collections.abc import Sequence

from mmdet.errors import UserValueError
from mmdet.registry import TRANSFORMS


def get_loading_pipeline(pipeline: Sequence[dict]) -> list[dict]:
    """The two transforms of a pipeline that load the image and its annotations.

    Raises:
        UserValueError: there is not one of each.
    """
    from mmdet.datasets.transforms import LoadAnnotations, LoadImageFromFile, LoadPanopticAnnotations

    loaders = (LoadImageFromFile, LoadAnnotations, LoadPanopticAnnotations)
    found = [cfg for cfg in pipeline if _class_of(cfg) in loaders]
    if len(found) != 2:
        raise UserValueError(
            f'the pipeline must load one image and its annotations, but of the transforms '
            f'{", ".join(cls.__name__ for cls in loaders)} it has {[cfg["type"] for cfg in found]}'
        )
    return found


def _class_of(cfg: dict) -> type:
    return TRANSFORMS.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']

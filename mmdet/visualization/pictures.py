"""The pictures of a data set as its pipeline loads them, for drawing what is known about them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile

from mmdet.datasets.walk import leaves, transforms_in
from mmdet.utils.output_names import OutputNames, common_folder, location
from mmdet.utils.pictures import as_picture, read_picture


class LoadedPictures:
    """Pictures by their paths, with the options of the loader that the data set's pipeline begins with.

    Boxes belong to the picture that the pipeline loaded: turned by its EXIF data or not, of 8 bits or more.

    Args:
        dataset: A data set, wrapped or not; without it pictures are read as files.
        backend_args: Where to read those that no pipeline loads.

    Attributes:
        names: Names for files about the pictures, with their folders below those of the data sets.
    """

    def __init__(self, dataset: Any = None, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args
        found = [] if dataset is None else leaves(dataset)
        self._loaders = [(_root(leaf), image_loader(getattr(leaf, 'pipeline', None))) for leaf in found]
        roots = [root for root, _ in self._loaders if root]
        self.names = OutputNames(common_folder(roots) if roots else None)

    def __call__(self, path: Any) -> np.ndarray:
        """(h, w, 3) RGB of a file, or of the first of several that are one picture."""
        loader = self._loader_of(path)
        if loader is None:
            return read_picture(path, self.backend_args)[..., ::-1]
        return load_rgb(loader, dict(img_path=path))

    def _loader_of(self, path: Any) -> Any:
        if len(self._loaders) > 1 and isinstance(path, (str, os.PathLike)):
            place = location(path)
            roots = [(root or '', i) for i, (root, _) in enumerate(self._loaders)]
            inside = [(len(root), i) for root, i in roots if place.startswith(f'{root.rstrip("/")}/')]
            return self._loaders[max(inside, default=(0, 0))[1]][1]
        return self._loaders[0][1] if self._loaders else None


def load_rgb(loader: Any, item: Any) -> np.ndarray:
    """(h, w, 3) RGB, uint8, of what a loader of pictures makes of ``item``."""
    results = loader(dict(item) if isinstance(item, dict) else item)
    if results is None:  # a loader that skips what it cannot read
        return read_picture(item['img_path'] if isinstance(item, dict) else item)[..., ::-1]
    image = results['img']
    if np.issubdtype(image.dtype, np.floating):  # bytes in another type
        image = image.clip(0, 65535).astype(np.uint8 if image.max(initial=0) <= 255 else np.uint16)
    return as_picture(image[..., :3] if image.ndim == 3 else image)[..., ::-1]


def image_loader(pipeline: Any) -> Any:
    """The transform of a pipeline that loads pictures, if there is one."""
    for transform in transforms_in(pipeline):
        if isinstance(transform, LoadImageFromFile) or type(transform).__name__ in _LOADERS:
            return transform
    return None


_LOADERS = ('InferencerLoader', 'LoadMultiChannelImageFromFiles')


def _root(dataset: Any) -> str | None:
    """The folder of a data set's pictures, as far as it is known."""
    prefixes = getattr(dataset, 'data_prefix', None) or {}
    for prefix in (
        prefixes.get('img'),
        prefixes.get('img_path'),
        prefixes.get('sub_data_root'),
        getattr(dataset, 'data_root', None),
    ):
        if isinstance(prefix, str) and prefix:
            return location(prefix)
    return None

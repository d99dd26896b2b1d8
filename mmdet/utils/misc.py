from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmdet.errors import UserKeyError, UserTypeError

IMG_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')


def find_latest_checkpoint(path: str | Path, suffix: str = 'pth') -> str | None:
    """``latest.pth`` of a work folder, else the file with the highest number (``epoch_12.pth``), else ``None``."""
    folder = Path(path)
    latest = folder / f'latest.{suffix}'
    if latest.exists():
        return str(latest)
    numbered = []
    for file in folder.glob(f'*.{suffix}'):
        number = re.search(r'_(\d+)$', file.stem)
        if number:
            numbered.append((int(number.group(1)), str(file)))
    return max(numbered)[1] if numbered else None


def _map_strings(value: Any, function) -> Any:
    if isinstance(value, dict):
        for key in value:
            value[key] = _map_strings(value[key], function)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_map_strings(item, function) for item in value)
    return function(value) if isinstance(value, str) else value


def update_data_root(cfg: Config, logger: Any = None) -> None:
    """Replace ``cfg.data_root`` by the environment variable ``MMDET_DATASETS`` wherever it begins a path."""
    new_root = os.environ.get('MMDET_DATASETS')
    if not new_root or 'data_root' not in cfg:
        return
    old_root = cfg.data_root
    print_log(f'MMDET_DATASETS is set: data_root {old_root!r} becomes {new_root!r}', logger=logger)
    _map_strings(cfg._cfg_dict, lambda text: new_root + text[len(old_root) :] if text.startswith(old_root) else text)


def replace_cfg_vals(ori_cfg: Config) -> Config:
    """A config in which ``'${dotted.key}'`` is replaced by the value of that key, within a longer string by its text.

    Raises:
        KeyError: naming the key that does not exist.
    """

    def lookup(key: str) -> Any:
        value: Any = ori_cfg
        for part in key.split('.'):
            try:
                value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise UserKeyError(f'${{{key}}} is used in the config, but there is no {part!r} in it') from None
        return value

    def replace(text: str) -> Any:
        whole = re.fullmatch(r'\$\{([\w.]+)\}', text)
        if whole:
            return copy.deepcopy(lookup(whole.group(1)))

        def as_text(match: re.Match) -> str:
            value = lookup(match.group(1))
            if isinstance(value, (dict, list, tuple)):
                raise UserTypeError(f'{text!r} needs a string or a number at {match.group(1)!r}, not {value!r}')
            return str(value)

        return re.sub(r'\$\{([\w.]+)\}', as_text, text)

    new = copy.deepcopy(ori_cfg)
    _map_strings(new._cfg_dict, replace)
    model_wrapper = new.pop('model_wrapper', None)
    if model_wrapper is not None:
        new.model = model_wrapper
    return new


def get_test_pipeline_cfg(cfg: str | Path | ConfigDict) -> ConfigDict:
    """The test pipeline of a config or config file, looked up inside dataset wrappers."""
    if isinstance(cfg, (str, Path)):
        cfg = Config.fromfile(str(cfg))
    dataset = cfg.test_dataloader.dataset
    while isinstance(dataset, (list, tuple)) or 'pipeline' not in dataset:
        if isinstance(dataset, (list, tuple)):
            dataset = dataset[0]
        elif 'datasets' in dataset:
            dataset = dataset.datasets[0]
        elif 'dataset' in dataset:
            dataset = dataset.dataset
        else:
            raise UserKeyError(
                f"the config has no test pipeline: 'pipeline' is missing in test_dataloader.dataset {dataset}"
            )
    return dataset.pipeline


def get_file_list(source_root: str) -> tuple[list[str], dict[str, bool]]:
    """Pictures in a folder and the folders below it, of a URL (which is downloaded to the working folder) or of a path.

    Returns:
        Paths, and which of ``is_dir``, ``is_url`` and ``is_file`` the source is.
    """
    is_dir = os.path.isdir(source_root)
    is_url = source_root.startswith(('http:/', 'https:/'))
    is_file = os.path.splitext(source_root)[-1].lower() in IMG_EXTENSIONS
    files: list[str] = []
    if is_dir:
        files = sorted(str(file) for file in Path(source_root).rglob('*') if file.suffix.lower() in IMG_EXTENSIONS)
    elif is_url:
        from mmdet.utils.downloads import fetch_to, file_name

        files = [str(fetch_to(source_root, Path.cwd() / file_name(source_root)))]
    elif is_file:
        files = [source_root]
    else:
        print_log(f'{source_root!r} is neither a folder nor a URL nor a picture.', logger='current', level=30)
    return files, dict(is_dir=is_dir, is_url=is_url, is_file=is_file)

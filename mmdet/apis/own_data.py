"""From a folder of data to a config: what is chosen, and why."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmdet.config import find_config, load_config, resolve_config
from mmdet.config.files import PREFIX, config_root
from mmdet.datasets.formats import Collection, read_data, with_validation
from mmdet.datasets.formats.writing import to_coco, write_json
from mmdet.errors import UserFileError, UserValueError

DEFAULT_MODEL = 'rtmdet-tiny'
DIVISOR = 32
SMALLEST_OBJECT = 16
"""Shorter side, in pixels after resizing, that nine of ten objects shall keep."""
PICTURES_IN_ALL = {'cuda': 30_000, 'cpu': 4_000}
"""About how many pictures a training sees; few data are seen more often, up to the epochs below."""
FEWEST_EPOCHS, MOST_EPOCHS = 12, 100
LARGEST_BATCH = {'cuda': 32, 'cpu': 8}
HOLDS_MASKS = ('LoadAnnotations', 'LoadPanopticAnnotations')


@dataclass
class Options:
    """What the person decides; None leaves the choice here.

    Attributes:
        weights: A checkpoint to begin from, False for none: the network begins with random numbers.
        size: Width and height that pictures are brought to fit, or one number for both.
        share: Of the training pictures for validation, where the data have none.
    """

    model: str = DEFAULT_MODEL
    weights: str | bool | None = None
    epochs: int | None = None
    batch: int | None = None
    size: tuple[int, int] | int | None = None
    lr: float | None = None
    workers: int | None = None
    seed: int = 0
    share: float = 0.2
    format: str | None = None


@dataclass
class Plan:
    """What the config will say, with a reason for each choice."""

    name: str
    base: str
    cfg: Any
    data: Collection
    weights: str | None
    size: tuple[int, int]
    keep_ratio: bool
    pad: float
    epochs: int
    batch: int
    lr: float
    workers: int
    seed: int
    with_mask: bool
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def iterations(self) -> int:
        """Of one epoch."""
        return max(1, math.ceil(len(self.data.splits['train']) / self.batch))


def make_plan(data: str | Path, options: Options) -> Plan:
    """Look at the data and the model, and choose.

    Raises:
        UserError: the data cannot be read, the model is not known or is not one for boxes, or there are no weights.
    """
    path = resolve_config(options.model)
    if not path.is_file():
        path = find_config(options.model)
    cfg = load_config(path)
    _require_detector(cfg, path)
    collection = with_validation(read_data(data, options.format), options.share)
    if not collection.classes:
        raise UserValueError(f'{str(data)!r} has no objects, so there is nothing to learn')
    weights, about_weights = _weights(options, path)
    loads_masks = any(step.get('with_mask') for step in _steps(cfg, 'train_dataloader'))
    if loads_masks and not collection.has_masks:
        raise UserValueError(f'{path.stem} learns masks, but {str(data)!r} has boxes alone; choose a model for boxes')
    device = device_kind()
    size, keep_ratio, about_size = _size(cfg, collection, options.size, device)
    batch, about_batch = (options.batch, 'as asked') if options.batch else _batch(cfg, size, collection, device)
    epochs, about_epochs = (options.epochs, 'as asked') if options.epochs else _epochs(collection, device)
    lr, about_lr = (options.lr, 'as asked') if options.lr else _rate(cfg, path.stem, batch)
    pad = next((_pad_value(step) for step in _steps(cfg, 'test_dataloader') if step.get('type') == 'Pad'), 0.0)
    workers = options.workers if options.workers is not None else min(4, os.cpu_count() or 1)
    splits = ', '.join(f'{len(group)} {split}' for split, group in collection.splits.items())
    counts = collection.counts()
    reasons = [
        ('data', f'{collection.root}, read as {collection.format}: {splits}'),
        *(('', note) for note in collection.notes),
        ('classes', ', '.join(f'{name} ({counts[name]})' for name in collection.classes)),
        ('model', f'{path.stem}, {"boxes and masks" if loads_masks else "boxes"}'),
        ('weights', about_weights),
        ('size', f'{size[0]}x{size[1]}: {about_size}'),
        ('batch', f'{batch}: {about_batch}'),
        ('rate', f'{lr:.3g}: {about_lr}'),
        ('epochs', f'{epochs}: {about_epochs}'),
    ]
    root = config_root()
    base = f'{PREFIX}{path.relative_to(root).as_posix()}' if path.is_relative_to(root) else str(path.absolute())
    name = f'{_plain(collection.root.name)}_{path.stem}'
    return Plan(
        name, base, cfg, collection, weights, size, keep_ratio, pad, epochs, batch, lr, workers, options.seed,
        loads_masks, reasons,
    )  # fmt: skip


def write_annotations(plan: Plan, folder: Path) -> None:
    """A COCO file for each split; pictures are named relative to the root of the data."""
    for split, pictures in plan.data.splits.items():
        missing = [picture.path for picture in pictures if picture.size is None]
        if missing:
            raise UserFileError(f'{len(missing)} pictures are not there or cannot be read, such as {missing[0]!r}')
        write_json(folder / f'{split}.json', to_coco(pictures, plan.data.classes))


def _plain(name: str) -> str:
    return re.sub(r'[^\w.-]+', '_', name) or 'data'


def _require_detector(cfg: Any, path: Path) -> None:
    model = cfg.get('model') or {}
    if 'test_dataloader' not in cfg or not model:
        raise UserValueError(f'{path.stem} is no config of a detector that is trained on its own')
    kinds = str(model.get('type'))
    if any(word in kinds for word in ('Panoptic', 'SoftTeacher', 'GLIP', 'GroundingDINO', 'RPN', 'FastRCNN')):
        raise UserValueError(f'{path.stem} ({kinds}) is not trained on boxes or masks of classes alone')


def _weights(options: Options, path: Path) -> tuple[str | None, str]:
    from mmdet.zoo import weights_of

    if options.weights is False:
        return None, 'none, as asked: the network begins with random numbers and needs many more pictures'
    if isinstance(options.weights, str):
        return options.weights, options.weights
    entry = weights_of(path.stem)
    return entry.url, f'{entry.url} ({entry.shown_results or "no published results"})'


def _steps(cfg: Any, loader: str) -> list[dict]:
    """The transforms of a loader's pipelines, from the inside out."""
    from mmdet.config import innermost_datasets, pipelines_around

    where = next((where for where, _ in innermost_datasets(cfg, loader)), None)
    return [step for pipeline in pipelines_around(cfg, where) for step in pipeline] if where is not None else []


def _pad_value(step: dict) -> float:
    value = step.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, dict) else value
    return float(value[0] if isinstance(value, (list, tuple)) else value)


def device_kind() -> str:
    """``'cuda'`` or ``'cpu'``: what a training here will run on."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


# --------------------------------------------------------------------------------------------------------------------
# The choices
def _size(cfg: Any, data: Collection, given: Any, device: str) -> tuple[tuple[int, int], bool, str]:
    """Width and height, whether the shape is kept, and why."""
    resize = next((step for step in _steps(cfg, 'test_dataloader') if 'Resize' in str(step.get('type'))), {})
    scale = resize.get('scale') or (1333, 800)
    scale = (scale, scale) if isinstance(scale, int) else tuple(scale)
    keep = bool(resize.get('keep_ratio', False))
    if given is not None:
        width, height = (given, given) if isinstance(given, int) else given
        return (_up(width), _up(height)), keep, 'as asked'
    if not keep or not data.pictures:
        return (int(scale[0]), int(scale[1])), keep, 'as the model is meant for'
    sides = np.array([picture.size for picture in data.pictures if picture.size], dtype=float)
    wide = np.median(sides[:, 0]) >= np.median(sides[:, 1])
    most = np.percentile(sides.max(1), 90), np.percentile(sides.min(1), 90)
    factor = min(max(scale) / most[0], min(scale) / most[1], 1.0)
    text = 'that of the model' if factor < 1 else 'that of the pictures'
    shorter = np.array([
        min(x2 - x1, y2 - y1) for p in data.pictures for x1, y1, x2, y2 in (box.xyxy for box in p.boxes)
    ])  # fmt: skip
    shorter = shorter[shorter > 0]
    if device == 'cpu' and len(shorter):
        enough = max(SMALLEST_OBJECT / np.percentile(shorter, 10), 320 / most[0])
        if enough < factor:
            factor, text = float(enough), f'nine of ten objects keep {SMALLEST_OBJECT} pixels, and a CPU is slow'
    longer, short = _up(most[0] * factor), _up(most[1] * factor)
    return ((longer, short) if wide else (short, longer)), True, text


def _up(side: float) -> int:
    return max(DIVISOR, math.ceil(side / DIVISOR - 1e-6) * DIVISOR)


def _batch(cfg: Any, size: tuple[int, int], data: Collection, device: str) -> tuple[int, str]:
    free = free_memory(device)
    needed = memory_of_a_picture(cfg, size)
    most = min(LARGEST_BATCH[device], max(1, len(data.splits['train']) // 8))
    fits = max(1, int(0.7 * free / needed))
    batch = 1 << (min(most, fits).bit_length() - 1)
    about = f'{needed / 2**30:.1f} GiB of {free / 2**30:.0f} for each picture' if needed >= 2**28 else 'it fits'
    return batch, f'{about}, at most {most} here'


def free_memory(device: str) -> int:
    """Bytes."""
    if device == 'cuda':
        import torch

        return torch.cuda.mem_get_info()[0]
    try:
        return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, ValueError, OSError):  # where there is no such call
        return 4 << 30


def memory_of_a_picture(cfg: Any, size: tuple[int, int]) -> int:
    """Bytes that a training step holds for a picture: what backbone and neck put out, and as much for the head.

    It is counted from shapes alone, without a computation.
    """
    import torch
    from mmengine.registry import init_default_scope

    from mmdet.registry import MODELS

    init_default_scope('mmdet')
    total = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    try:
        with torch.device('meta'), torch.no_grad():
            model = MODELS.build(cfg.model)
            for module in model.modules():
                if not any(module.children()):
                    module.register_forward_hook(count)
            model.train().extract_feat(torch.empty(1, 3, size[1], size[0]))
    except Exception:  # a network that shapes alone do not run through
        total = 0
    return max(2 * total, 64 * size[0] * size[1] * 16)


def _epochs(data: Collection, device: str) -> tuple[int, str]:
    count = len(data.splits['train'])
    epochs = round(min(MOST_EPOCHS, max(FEWEST_EPOCHS, PICTURES_IN_ALL[device] / count)))
    return epochs, f'{count} pictures, of which a training on this {device.upper()} sees {epochs * count:,} in all'


def _rate(cfg: Any, name: str, batch: int) -> tuple[float, str]:
    """The rate of the base for this batch: in proportion for SGD, by the square root for Adam's kin."""
    optimizer = cfg.optim_wrapper.optimizer
    kind, rate = str(optimizer.get('type')), float(optimizer.get('lr'))
    meant = re.search(r'_(\d+)xb(\d+)', name)
    base = int(meant[1]) * int(meant[2]) if meant else (cfg.get('auto_scale_lr') or {}).get('base_batch_size', 16)
    ratio = batch / base
    if 'SGD' in kind:
        return rate * ratio, f'{rate:g} of the base is for batches of {base}, and SGD goes in proportion'
    return rate * math.sqrt(ratio), f'{rate:g} of the base is for batches of {base}, and {kind} goes by the square root'

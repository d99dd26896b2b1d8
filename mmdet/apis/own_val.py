"""Other data in the place of a config's test data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets.formats import read_data
from mmdet.datasets.formats.writing import to_coco, write_json
from mmdet.errors import UserValueError


def on_data(cfg: Any, data: str | Path, split: str, classes: Sequence[str]) -> None:
    """Let a config test on a split of a folder of data; data without splits are taken whole.

    Raises:
        UserValueError: the data have no such split, or a class that the detector lacks.
    """
    from mmdet.utils import get_test_pipeline_cfg

    collection = read_data(data)
    splits = {name: group for name, group in collection.splits.items() if group}
    pictures = splits.get(split, splits.get('') if len(splits) == 1 else None)
    if pictures is None:
        raise UserValueError(f'{str(data)!r} has no split {split!r}; it has {", ".join(map(repr, splits))}')
    strange = [name for name in collection.classes if name not in classes]
    if strange:
        raise UserValueError(
            f'{str(data)!r} has the classes {", ".join(map(repr, strange[:5]))}, which the detector does not know; it '
            f'knows {", ".join(classes[:8])}{", ..." if len(classes) > 8 else ""}'
        )
    file = Path(cfg.work_dir) / f'{split}.json'
    write_json(file, to_coco(pictures, classes))
    pipeline = get_test_pipeline_cfg(cfg)
    masks = any(step.get('with_mask') for step in pipeline) and collection.has_masks
    dataset = dict(
        type='CocoDataset',
        ann_file=str(file.absolute()),
        data_prefix=dict(img=str(collection.root)),
        metainfo=dict(classes=tuple(classes)),
        test_mode=True,
        pipeline=pipeline,
    )
    loader = dict(batch_size=cfg.test_dataloader.get('batch_size', 1), num_workers=0)
    cfg.test_dataloader = dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    cfg.test_evaluator = dict(
        type='CocoMetric', ann_file=str(file.absolute()), metric=['bbox', 'segm'] if masks else 'bbox'
    )


def trained_classes(cfg: Any, checkpoint: str) -> tuple[str, ...]:
    """The classes that a checkpoint was trained for, else, as for an exported file, those of the config."""
    from mmdet.export.runtime import is_exported
    from mmdet.utils.checkpoint import read_checkpoint

    from .inference import dataset_meta

    content = None if is_exported(checkpoint) else read_checkpoint(checkpoint)
    return tuple(dataset_meta(cfg, content).get('classes') or ())

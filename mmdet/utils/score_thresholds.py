"""Score thresholds: one for all classes, or one for each."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmdet.errors import UserFileError, UserValueError

ScoreThresholds = float | Sequence[float] | Mapping[str, Any] | str | Path | Tensor


def resolve_score_thresholds(
    thresholds: ScoreThresholds, classes: Sequence[str] | None = None, default: float = 0.3
) -> float | Tensor:
    """A number as it is; anything else as a tensor of one threshold per class.

    Args:
        thresholds: A number, a list in the order of ``classes``, a dict by class name, or a JSON file of either. A
            value of a dict may itself be a dict with the key ``threshold``, as the COCO metric writes.
        classes: Names of the classes by label.
        default: For classes that a dict does not name.
    """
    if isinstance(thresholds, (int, float, Tensor)):
        return thresholds
    source = 'the score thresholds'
    if isinstance(thresholds, (str, Path)):
        source = f'the score thresholds of {str(thresholds)!r}'
        path = Path(thresholds).expanduser()
        if not path.is_file():
            raise UserFileError(f'there is no file of score thresholds {str(thresholds)!r}')
        try:
            thresholds = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise UserValueError(f'{str(path)!r} is not JSON: {error}') from None
        if not isinstance(thresholds, (dict, list)):
            raise UserValueError(f'{source} must be a list or a dict by class name, not {thresholds!r}')
    if isinstance(thresholds, Mapping):
        if classes is None:
            raise UserValueError(f'{source} go by class name, but the names of the classes are not known')
        for name in thresholds:
            if name not in classes:
                near = difflib.get_close_matches(str(name), classes, n=1, cutoff=0.5)
                hint = f' Did you mean {near[0]!r}?' if near else ''
                raise UserValueError(f'{source} name {name!r}, which is no class of the model.{hint}')
        values = [thresholds.get(name, default) for name in classes]
        values = [value['threshold'] if isinstance(value, Mapping) else value for value in values]
    else:
        values = list(thresholds)
        if classes is not None and len(values) != len(classes):
            raise UserValueError(f'{source} are {len(values)} numbers for {len(classes)} classes')
    return torch.tensor([float(value) for value in values])


def above_score_threshold(instances: InstanceData, thresholds: float | Tensor) -> InstanceData:
    """The instances whose score is above the threshold, that of their label where there is one per class."""
    if isinstance(thresholds, Tensor) and thresholds.ndim:
        thresholds = thresholds.to(instances.scores)[instances.labels]
    return instances[instances.scores > thresholds]

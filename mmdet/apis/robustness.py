"""Performance under corrupted pictures (arXiv:1907.07484): which corruptions there are, and what is told of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmdet.errors import UserKeyError, UserValueError

GROUPS = {
    'noise': ['gaussian_noise', 'shot_noise', 'impulse_noise'],
    'blur': ['defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'],
    'weather': ['snow', 'frost', 'fog', 'brightness'],
    'digital': ['contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'],
    'holdout': ['speckle_noise', 'gaussian_blur', 'spatter', 'saturate'],
}
BENCHMARK = [name for group in ('noise', 'blur', 'weather', 'digital') for name in GROUPS[group]]
CORRUPTIONS = BENCHMARK + GROUPS['holdout']
CHOICES = ['all', 'benchmark', *GROUPS, 'None', *CORRUPTIONS]
PRINTS = {
    'P': 'performance on clean pictures',
    'mPC': 'mean performance under corruption',
    'rPC': 'relative performance under corruption, of the clean one',
}
COCO_NUMBERS = {
    'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'APs': 'mAP_s', 'APm': 'mAP_m', 'APl': 'mAP_l',
    'AR1': 'AR@100', 'AR10': 'AR@300', 'AR100': 'AR@1000', 'ARs': 'AR_s@1000', 'ARm': 'AR_m@1000', 'ARl': 'AR_l@1000',
}  # fmt: skip

Results = Mapping[str, Mapping[int, Mapping[str, float]]]


def chosen_corruptions(names: Sequence[str]) -> list[str]:
    """The corruptions that names of them and of groups mean, each once; with ``None`` the clean pictures alone."""
    found: list[str] = []
    for name in names:
        known = dict(all=CORRUPTIONS, benchmark=BENCHMARK, **GROUPS)
        if name not in CHOICES:
            raise UserValueError(f'there is no corruption {name!r}; there are {", ".join(CHOICES)}')
        found += known.get(name, [name])
    if 'None' in found:
        return ['None']
    return list(dict.fromkeys(found))


def corrupted_pipeline(pipeline: Sequence[dict], corruption: str, severity: int) -> list[dict]:
    """The pipeline with pictures corrupted right after they are loaded; unchanged where the severity is 0."""
    if severity == 0 or corruption == 'None':
        return list(pipeline)
    step = dict(type='Corrupt', corruption=corruption, severity=severity)
    for place, transform in enumerate(pipeline, 1):
        if 'LoadImage' in str(transform.get('type')) or str(transform.get('type')).endswith('InferencerLoader'):
            return [*pipeline[:place], step, *pipeline[place:]]
    raise UserValueError('the pipeline loads no picture (LoadImageFromFile) that could be corrupted')


def number_names(results: Results, dataset: str, task: str, metrics: Sequence[str] | None) -> dict[str, str]:
    """What is shown -> its key in the results.

    Raises:
        UserKeyError: for a number that the results do not have.
    """
    keys = next(iter(next(iter(results.values())).values()))
    last = {key.rpartition('/')[2]: key for key in keys}
    if dataset == 'coco':
        names = {short: f'{task}_{long}' for short, long in COCO_NUMBERS.items()}
    else:
        names = {'AP50' if dataset == 'voc' else 'AP': 'mAP' if dataset == 'voc' else f'{task}_mAP'}
    found = {short: last[long] for short, long in names.items() if long in last}
    if metrics:
        absent = [name for name in metrics if name not in found]
        if absent:
            raise UserKeyError(f'the results have no {", ".join(absent)} of {task}, only {", ".join(keys)}')
        found = {name: found[name] for name in metrics}
    if not found:
        raise UserKeyError(f'the results have no numbers of {dataset} for {task}, only {", ".join(keys)}')
    return found


def summarize(
    results: Results,
    dataset: str = 'coco',
    task: str = 'bbox',
    metrics: Sequence[str] | None = None,
    aggregate: str = 'benchmark',
) -> dict[str, dict[str, float]]:
    """For each number ``P``, ``mPC`` and ``rPC`` (Sec. 3.3), NaN where severities are missing.

    Args:
        results: By corruption and severity (0 for clean pictures) what the metrics gave.
        aggregate: 'benchmark' for its 15 corruptions, 'all' for whatever the results have.
    """
    used = [name for name in results if aggregate == 'all' or name in BENCHMARK]
    table = {}
    for short, key in number_names(results, dataset, task, metrics).items():
        clean = [entry[0][key] for entry in results.values() if 0 in entry]
        corrupted = [
            np.mean([numbers[key] for severity, numbers in results[name].items() if severity]) for name in used
            if any(results[name])
        ]  # fmt: skip
        if clean and clean[0] < 0:  # there are no objects of this size
            continue
        p = float(clean[0]) if clean else float('nan')
        mpc = float(np.mean(corrupted)) if corrupted else float('nan')
        table[short] = dict(P=p, mPC=mpc, rPC=mpc / p if p else float('nan'))
    return table


def lines_of(table: Mapping[str, Mapping[str, float]], prints: Sequence[str]) -> list[str]:
    """The chosen of ``P``, ``mPC`` and ``rPC`` of each number, in words."""
    lines = []
    for name in prints:
        lines.append(f'{name}: {PRINTS[name]}')
        percent = name == 'rPC'
        lines += [
            f'    {short:6} = {100 * value[name]:.1f} %' if percent else f'    {short:6} = {value[name]:.3f}'
            for short, value in table.items()
        ]
    return lines

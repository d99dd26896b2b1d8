from __future__ import annotations

import argparse
from typing import Any

from mmdet.config.places import nearest
from mmdet.errors import UserKeyError


def trigger_visualization_hook(cfg: Any, args: argparse.Namespace) -> Any:
    """Let the visualization hook of a config, in place, draw as ``show``, ``wait_time`` and ``show_dir`` say.

    Raises:
        UserKeyError: the config has no such hook.
    """
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UserKeyError(
            "default_hooks has no 'visualization', which draws the predictions: "
            "add visualization=dict(type='DetVisualizationHook')"
        )
    hook['draw'] = True
    if args.show:
        hook['show'], hook['wait_time'] = True, args.wait_time
    if args.show_dir:
        hook['test_out_dir'] = args.show_dir
    return cfg


def require_number(name: str, metrics: dict, who: str) -> None:
    """Stop where somebody waits for a metric that the validation did not give.

    Raises:
        UserKeyError: with the nearest of those that it gave.
    """
    if name not in metrics:
        near = nearest(name, metrics)
        hint = f' Did you mean {" or ".join(near)}?' if near else ''
        given = ', '.join(metrics) or 'there are none'
        raise UserKeyError(f'{who}={name!r} is none of the metrics that validation gave: {given}.{hint}')

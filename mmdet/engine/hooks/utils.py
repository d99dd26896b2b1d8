from __future__ import annotations

import argparse
from typing import Any

from mmdet.errors import UserKeyError


def trigger_visualization_hook(cfg: Any, args: argparse.Namespace) -> Any:
    """Let the visualization hook of a config, in place, draw as ``show``, ``wait_time`` and ``show_dir`` say.

    Raises:
        UserKeyError: the config has no such hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
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

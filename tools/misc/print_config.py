"""Print a config with all that it inherits, or what it changes in its base."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction
from mmdet.errors import UserValueError


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--save-path', help='also write the config to this .py, .json or .yml file')
    parser.add_argument(
        '--diff',
        nargs='?',
        const='',
        metavar='CONFIG',
        help='print only what differs from another config; without one, from the files in _base_',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py')
    return parser.parse_args(argv)


def main(args):
    from mmdet.config import diff_to_base, load_config

    cfg = load_config(args.config, args.cfg_options)
    if args.diff is not None:
        lines = diff_to_base(cfg, args.config, args.diff or None)
        print('\n'.join(lines) if lines else 'no difference')
    else:
        print(cfg.pretty_text)
    if args.save_path is not None:
        if not args.save_path.endswith(('.py', '.json', '.yml', '.yaml')):
            raise UserValueError(f'--save-path must end with .py, .json, .yml or .yaml, not {args.save_path!r}')
        Path(args.save_path).parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))

"""Look for mistakes in a config: unknown names, overrides that reach nothing, schedules and class counts."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))
from mmdet.apis.arguments import DictAction


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, epilog='The exit code is 1 when there are errors.')
    parser.add_argument('config', nargs='+', help='config files')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as in train.py')
    parser.add_argument('--json', action='store_true', help='print the findings as JSON')
    return parser.parse_args(argv)


def main(args):
    import json

    from mmdet.checks.config_check import check_config
    from mmdet.config import load_config

    failed, table = False, []
    for path in args.config:
        cfg = load_config(path, args.cfg_options)
        findings = check_config(cfg, path)
        failed |= any(finding.level == 'error' for finding in findings)
        if args.json:
            table += [dict(config=path, level=f.level, where=f.where, message=f.message) for f in findings]
            continue
        print(f'{path}: {"nothing found" if not findings else ""}')
        for note in getattr(cfg, 'translation_notes', None) or ():
            print(f'  translated: {note}')
        for finding in findings:
            print(f'  {finding}')
    if args.json:
        print(json.dumps(table, indent=2))
    return int(failed)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))

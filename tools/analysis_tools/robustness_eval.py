"""Sum up what tools/analysis_tools/test_robustness.py has written: performance under corrupted pictures."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import run

METRICS = ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'AR1', 'AR10', 'AR100', 'ARs', 'ARm', 'ARl']


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('filename', help='results of test_robustness.py, .pkl or .json')
    parser.add_argument('--dataset', choices=['coco', 'voc', 'cityscapes'], default='coco', help='whose numbers')
    parser.add_argument('--task', nargs='+', choices=['bbox', 'segm'], default=['bbox'])
    parser.add_argument('--metric', nargs='+', choices=[None, *METRICS], help='by default all that there are')
    parser.add_argument('--prints', nargs='+', choices=['P', 'mPC', 'rPC'], default=['mPC'], help='what to print')
    parser.add_argument('--aggregate', choices=['all', 'benchmark'], default='benchmark', help='over which corruptions')
    return parser.parse_args(argv)


def read_results(filename):
    """By corruption and severity the numbers of the metrics."""
    import json

    from mmdet.errors import UserFileError, UserValueError

    if not os.path.isfile(filename):
        raise UserFileError(f'{filename} does not exist')
    if filename.endswith('.json'):
        with open(filename, encoding='utf-8') as file:
            content = json.load(file)
    else:
        from mmdet.utils.checkpoint import read_file

        content = read_file(filename)
    if not isinstance(content, dict) or not all(isinstance(entry, dict) and entry for entry in content.values()):
        raise UserValueError(f'{filename} does not hold results by corruption and severity')
    return {name: {int(severity): numbers for severity, numbers in entry.items()} for name, entry in content.items()}


def main(argv=None):
    args = parse_args(argv)
    from mmdet.apis.robustness import lines_of, summarize

    results = read_results(args.filename)
    for task in args.task:
        print(f'{task}, over {args.aggregate} corruptions')
        print('\n'.join(lines_of(summarize(results, args.dataset, task, args.metric, args.aggregate), args.prints)))


if __name__ == '__main__':
    run(main)

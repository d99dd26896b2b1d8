"""Write the report of a run again, or compare two runs.

mmdet report work_dirs/mine
mmdet report work_dirs/mine work_dirs/other --out comparison.html
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One run or two."""
    parser.add_argument(
        'runs', nargs='+', metavar='RUN', help='work dir of a training, or folder of a test; one or two'
    )
    parser.add_argument('--out', default='comparison.html', help='page of a comparison')
    parser.add_argument('--draws', type=int, default=200, help='of the bootstrap of a comparison')


def run(args: argparse.Namespace) -> None:
    """Write the page and print where it is, and what differs."""
    from mmdet.errors import UserFileError, UserValueError

    if len(args.runs) > 2:
        raise UserValueError(f'a report is of one run or compares two, not {len(args.runs)}')
    if len(args.runs) == 1:
        import os

        from mmdet.apis.report import write_report

        if not os.path.isdir(args.runs[0]):
            raise UserFileError(f'There is no folder {args.runs[0]!r}.')
        print(f'The report is {write_report(args.runs[0])}')
        return
    from mmdet.apis.report_compare import compare

    rows = compare(*args.runs, out=args.out, draws=args.draws)
    width = max(len(row[0]) for row in rows)
    for name, first, second, difference, low, high in rows:
        print(f'{name:<{width}}  {first:.3f}  {second:.3f}  {difference:+.3f}  [{low:+.3f}, {high:+.3f}]')
    print(f'The comparison is {args.out}')

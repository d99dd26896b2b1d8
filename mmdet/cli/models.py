"""Search the published models: names, parameters, results, and which weights are on this machine.

mmdet models                  # one row for each family
mmdet models rtmdet           # all whose name or family has this word
mmdet models rtmdet-tiny --json
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Words to search for, and how to print."""
    parser.add_argument('words', nargs='*', help='parts of the name or family; all must occur')
    parser.add_argument('--here', action='store_true', help='only those whose weights are on this machine')
    parser.add_argument('--json', action='store_true', help='print all that is known of them as JSON')


def run(args: argparse.Namespace) -> int:
    """Print what was found; the exit code is 1 where nothing was."""
    import dataclasses
    import json

    from mmdet.zoo import cache_folder, cached_file, search

    found = search(*args.words)
    places = {entry.name: cached_file(entry.url) for entry in found}
    if args.here:
        found = [entry for entry in found if places[entry.name]]
    if args.json:
        rows = [dataclasses.asdict(entry) | {'file': places[entry.name] and str(places[entry.name])} for entry in found]
        print(json.dumps(rows, indent=1))
        return int(not found)
    if not args.words and not args.here:
        families: dict[str, list] = {}
        for entry in found:
            families.setdefault(entry.family, []).append(entry)
        for family, members in sorted(families.items()):
            best = members[0]
            print(f'{family:24} {len(members):3} models, the best: {best.name} ({best.shown_results or "-"})')
        print('\nmmdet models WORD lists those of a family.')
        return 0
    for entry in found:
        size = '-' if entry.parameters is None else f'{entry.parameters / 1e6:.1f}M'
        print(f'{entry.name:60} {size:>8}  {entry.shown_results or "-"}{"  here" if places[entry.name] else ""}')
    if not found:
        print(f'no published model has {" and ".join(args.words) or "weights here"} in its name')
        return 1
    print(f'\nWeights are kept in {cache_folder()}')
    return 0

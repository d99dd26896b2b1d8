"""Which sub-command is meant. A help text imports argparse and the module of that sub-command, and nothing heavy.

A sub-command is a module of this package with two functions: ``add_arguments(parser)`` and ``run(args)``, whose number
is the exit code; the first paragraph of its docstring is its description. A new one is its module and a row here.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from mmdet.version import __version__

COMMANDS = {
    'init': 'look at a folder of data and write a config for it',
    'train': 'train on a folder of data, or by a config',
    'val': 'measure a trained detector',
    'predict': 'detect on pictures, videos and cameras',
    'label': 'make annotations of what a detector finds',
    'export': 'write a detector as a file for another runtime, and prove it',
    'benchmark': 'precision, speed and size of checkpoints and exported files',
    'models': 'search the published models',
    'doctor': 'look for mistakes in the data of a config',
    'convert': 'write annotations in another format',
    'report': 'write the page about a run again, or compare two runs',
}
"""Name of a sub-command, which is that of its module, and its line in the help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ('-h', '--help', 'help'):
        print(overview())
        return 0
    if arguments[0] in ('-V', '--version', 'version'):
        print(f'mmdet {__version__}')
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        print(f'error: there is no command {name!r}{hint} mmdet --help lists all.', file=sys.stderr)
        return 2
    module = import_module(f'mmdet.cli.{name}')
    description, _, epilog = (module.__doc__ or '').partition('\n\n')
    parser = argparse.ArgumentParser(
        prog=f'mmdet {name}',
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(arguments[1:])
    from mmdet.apis.launch import run_tool

    return run_tool(module.run, args)


def overview() -> str:
    """What ``mmdet --help`` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f'  {name:{width}}{text}' for name, text in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: mmdet COMMAND ...',
            '',
            f'Object detection, version {__version__}.',
            '',
            *lines,
            '',
            'mmdet COMMAND --help tells about one of them.',
        ]
    )

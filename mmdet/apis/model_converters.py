"""What the scripts in ``tools/model_converters`` share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence


def convert_checkpoint(convert: Callable[[dict], dict], about: str | None, argv: Sequence[str] | None = None) -> None:
    """A command that reads a checkpoint of another release and writes one with our names.

    Args:
        convert: Makes weights by our names of weights by theirs.
        about: Text of its help.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', help='checkpoint of the official release')
    parser.add_argument('dst', nargs='?', help='checkpoint to write (SRC without suffix, and _mmdet.pth)')
    parser.add_argument('--dst', dest='named', metavar='DST', help='the same as a flag')
    args = parser.parse_args(argv)
    import torch

    from mmdet.utils.checkpoint import read_checkpoint

    found = read_checkpoint(args.src)
    weights = convert(found.get('model', found.get('state_dict', found)))
    out = args.dst or args.named or f'{os.path.splitext(args.src)[0]}_mmdet.pth'
    torch.save(dict(state_dict=weights), out)
    print(f'{out}: {len(weights)} tensors')

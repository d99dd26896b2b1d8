"""From a file of weights to another: what ``tools/model_converters`` share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any


def convert_file(src: str, dst: str, convert: Callable[[Any], dict], bare: bool = False) -> None:
    """Read ``src`` without running code in it, and write what ``convert`` makes of its content to ``dst``.

    Args:
        convert: Gives weights, or with ``bare`` a whole checkpoint, of what the file holds.
    """
    from mmdet.utils.checkpoint import read_file, save_checkpoint

    converted = convert(read_file(src))
    checkpoint = converted if bare else dict(state_dict=converted)
    save_checkpoint(checkpoint, dst)
    print(f'{len(checkpoint["state_dict"])} tensors in {dst}')


def run(main: Callable[[Sequence[str] | None], Any]) -> None:
    """Run the ``main`` of a script and exit; mistakes are one line."""
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(lambda _: main(None), None))

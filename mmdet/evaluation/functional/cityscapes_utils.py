"""The evaluation of Cityscapes' own scripts (``pip install cityscapesscripts``)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
from mmengine.fileio import get_local_path


def evaluateImgLists(
    prediction_list: Sequence[str],
    groundtruth_list: Sequence[str],
    args: Any,
    backend_args: dict | None = None,
    dump_matches: bool = False,
) -> dict:
    """AP of instances, as the scripts give it.

    Args:
        prediction_list: For each picture the file that lists its predicted objects.
        groundtruth_list: For each picture the PNG file of its true instances.
        args: The options of the scripts, ``evalInstanceLevelSemanticLabeling.args``.
        backend_args: How the ground truth is read.
        dump_matches: Print the scripts' own table.
    """
    import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as scripts

    args.quiet = not dump_matches
    with ExitStack() as stack:
        truths = [stack.enter_context(get_local_path(path, backend_args=backend_args)) for path in groundtruth_list]
        # The scripts (2.3.0) do not fit NumPy 2: they call in1d, and fail to write a cache of numpy numbers as JSON.
        stack.enter_context(patch.object(np, 'in1d', np.isin, create=True))
        stack.enter_context(patch.object(scripts, 'writeDict2JSON', lambda *_: None))
        return scripts.evaluateImgLists(list(prediction_list), truths, args)

"""Files of precomputed proposals, read without running anything that stands in them."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from mmengine import fileio

from mmdet.errors import UserValueError
from mmdet.utils.stand_ins import StandIn
from mmdet.utils.unpickling import read_pickle


class _Instances(StandIn):
    """mmengine.structures.InstanceData"""

    def __setstate__(self, state: dict) -> None:
        self.fields = {name: value for name, value in state.items() if not name.startswith('_')}

    def resolved(self) -> dict:
        return self.fields


def read_proposals(path: str, backend_args: dict | None = None) -> dict[str, Any]:
    """``<folder>/<file name>`` -> a dict with ``bboxes`` (N, 4) and perhaps ``scores``, or an array (N, 4 or 5).

    Args:
        path: A pickle of arrays or ``InstanceData`` by image, as :class:`DumpProposals` writes it, or a JSON file.

    Raises:
        ValueError: the file is damaged, holds no dict, or asks for anything but arrays.
    """
    content = fileio.get(path, backend_args=backend_args)
    try:
        if path.endswith('.json'):
            proposals = json.loads(content)
        else:
            proposals = read_pickle(BytesIO(content), {'mmengine.structures.instance_data.InstanceData': _Instances})
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise UserValueError(f'proposal file {path!r} cannot be read: {error}') from error
    if not isinstance(proposals, dict):
        raise UserValueError(f'proposal file {path!r} holds a {type(proposals).__name__}, not a dict by image')
    return proposals

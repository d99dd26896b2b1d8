"""What an exported file says about itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mmdet.errors import UserValueError

KEY = 'mmdet'
"""Name of the one entry of a file's metadata, whose value is JSON."""


@dataclass
class Metadata:
    """All that is needed to feed an exported file and to read its results.

    Attributes:
        version: Of this package.
        format, precision: Of the file: a name of ``mmdet.export.FORMATS``, and float32, float16 or int8.
        config: The whole config as text, so that the test pipeline and data sets are known.
        classes: Names of the labels.
        size: Height and width of the input; those that the graph was traced with if they are dynamic.
        batch: Pictures of a batch, unless that is dynamic.
        divisor: Height and width of a dynamic input are multiples of it.
        preprocess: Whether the input is raw pixels, blue first, from 0 to 255; else it is normalised already.
        fill: Of the three channels of the input, what is put beside a picture that is smaller.
        outputs: Their names in order: boxes, scores, labels and maybe masks, or panoptic.
        masks: None without masks. Else ``of``, 'box' or 'picture', which they are stretched over; ``threshold``, the
            least probability inside; and ``enlarged``, what they are, between whose cells is interpolated:
            'probabilities', 'logits', or 'aligned' probabilities, whose cells lie as
            :func:`mmdet.models.core.aligned_bilinear` has them.
        nms: None where suppression is inside. Else the arguments of it with ``score_thr`` and ``max_per_img``.
        score_thr: Detections inside score above it.
    """

    version: str
    format: str
    precision: str = 'float32'
    config: str = ''
    classes: list[str] = field(default_factory=list)
    size: list[int] = field(default_factory=lambda: [640, 640])
    batch: int = 1
    dynamic_batch: bool = False
    dynamic_size: bool = False
    divisor: int = 32
    preprocess: bool = True
    fill: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    outputs: list[str] = field(default_factory=lambda: ['boxes', 'scores', 'labels'])
    masks: dict[str, Any] | None = None
    nms: dict[str, Any] | None = None
    score_thr: float = 0.0

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | None, path: str | Path) -> Metadata:
        """What :meth:`dump` wrote; ``path`` is the file for messages."""
        if not text:
            raise UserValueError(f'{path} was not exported by mmdet export: it has no metadata {KEY!r}')
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


def sidecar(path: str | Path) -> Path:
    """The file beside one whose format has no room for metadata."""
    return Path(f'{path}.json')

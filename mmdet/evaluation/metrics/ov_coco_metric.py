from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.logging import MMLogger

from mmdet.errors import UserKeyError
from mmdet.registry import METRICS

from .coco_metric import CocoMetric


@METRICS.register_module()
class OVCocoMetric(CocoMetric):
    """:class:`CocoMetric` that also gives AP of the classes that were trained on and of new ones (open-vocabulary COCO,
    arXiv:2011.10678, Sec. 4): ``base_ap``, ``base_ap50``, ``novel_ap``, ``novel_ap50``; of masks ``segm_base_ap``, ....

    They are -1 where there is no object of such a class. The ``metainfo`` of the data set has ``base_classes`` and
    ``novel_classes``.
    """

    def _by_groups(self, evaluator: Any, metric: str, logger: MMLogger) -> dict[str, float]:
        names = [self._coco_api.cats[own]['name'] for own in evaluator.params.catIds]
        precision = np.asarray(evaluator.eval['precision'])[:, :, :, 0, -1]  # (T, R, K)
        found = {}
        for group in ('base', 'novel'):
            wanted = self.dataset_meta.get(f'{group}_classes')
            if wanted is None:
                raise UserKeyError(f"OVCocoMetric needs metainfo with '{group}_classes' in the data set")
            own = precision[:, :, [place for place, name in enumerate(names) if name in wanted]]
            at_half = own[np.isclose(evaluator.params.iouThrs, 0.5)]
            for name, values in ((f'{group}_ap', own), (f'{group}_ap50', at_half)):
                values = values[values > -1]
                found[name if metric == 'bbox' else f'{metric}_{name}'] = float(values.mean()) if values.size else -1.0
        logger.info(', '.join(f'{name} {value:.4f}' for name, value in found.items()))
        return found

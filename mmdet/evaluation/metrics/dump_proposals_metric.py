from __future__ import annotations

import os.path as osp
from collections.abc import Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from mmdet.errors import UserRuntimeError, UserValueError
from mmdet.registry import METRICS

from .samples import to_numpy


@METRICS.register_module()
class DumpProposals(BaseMetric):
    """Write the proposals of an RPN for training Fast R-CNN: a pickled dict from ``<folder>/<file name>`` to instances.

    Args:
        num_max_proposals: Keep the best so many of each image.
    """

    default_prefix: str | None = 'dump_proposals'

    def __init__(
        self,
        output_dir: str = '',
        proposals_file: str = 'proposals.pkl',
        num_max_proposals: int | None = None,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not proposals_file.endswith(('.pkl', '.pickle')):
            raise UserValueError(f'proposals_file must end with .pkl or .pickle, got {proposals_file!r}.')
        if file_client_args is not None:
            raise UserRuntimeError('file_client_args is no longer taken; use backend_args (see mmengine.fileio).')
        self.proposals_file = osp.join(output_dir, proposals_file)
        self.num_max_proposals = num_max_proposals
        self.backend_args = backend_args
        self._named: dict[str, str] = {}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        for data_sample in data_samples:
            pred = data_sample['pred_instances']
            scores, boxes = to_numpy(pred['scores']), to_numpy(pred['bboxes'])
            order = (-scores).argsort(kind='stable')[: self.num_max_proposals]
            path = Path(data_sample['img_path'])
            instances = InstanceData(bboxes=boxes[order], scores=scores[order])
            name = f'{path.parent.name}/{path.name}'
            if self._named.setdefault(name, str(path)) != str(path):
                raise UserValueError(
                    f'{self._named[name]} and {path} are both {name!r} in a file of proposals, which tells pictures by '
                    'their folder and name: dump the proposals of each data set by itself'
                )
            self.results.append({name: instances})

    def compute_metrics(self, results: list) -> dict:
        dump(
            {name: instances for result in results for name, instances in result.items()},
            self.proposals_file,
            backend_args=self.backend_args,
        )
        MMLogger.get_current_instance().info(f'Proposals of {len(results)} images are saved as {self.proposals_file}.')
        return {}

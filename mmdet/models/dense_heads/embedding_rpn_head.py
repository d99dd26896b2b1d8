from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet.errors import UserNotImplementedError, UserValueError
from mmdet.models.core import fixed_instances
from mmdet.ops.fixed_size import is_fixed_size
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import InstanceList, OptMultiConfig

from .detr_head import image_sizes


@MODELS.register_module()
class EmbeddingRPNHead(BaseModule):
    """Proposals that are learned, the same for every image (Sparse R-CNN, arXiv:2011.12450, Sec. 3.2).

    Args:
        num_proposals: Q.
        proposal_feature_channel: Channels of the feature that goes with each proposal.
        kwargs: Accepted; what a detector tells every head of proposals.
    """

    def __init__(
        self,
        num_proposals: int = 100,
        proposal_feature_channel: int = 256,
        init_cfg: OptMultiConfig = None,
        **kwargs: Any,
    ) -> None:
        if init_cfg is not None:
            raise UserValueError('EmbeddingRPNHead initialises its proposals itself; init_cfg must be None')
        super().__init__(init_cfg)
        self.num_proposals, self.proposal_feature_channel = num_proposals, proposal_feature_channel
        self._init_layers()

    def _init_layers(self) -> None:
        self.init_proposal_bboxes = nn.Embedding(self.num_proposals, 4)
        self.init_proposal_features = nn.Embedding(self.num_proposals, self.proposal_feature_channel)

    def init_weights(self) -> None:
        """Every proposal starts as the whole image."""
        super().init_weights()
        nn.init.constant_(self.init_proposal_bboxes.weight[:, :2], 0.5)
        nn.init.constant_(self.init_proposal_bboxes.weight[:, 2:], 1)

    def _decode_init_proposals(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> InstanceList:
        """Of each image ``bboxes (Q, 4)`` xyxy in pixels, ``imgs_whwh (Q, 4)`` width, height, width, height of the
        image without its padding, and ``features (Q, C)``."""
        boxes, features = self.init_proposal_bboxes.weight, self.init_proposal_features.weight
        sizes = image_sizes([sample.metainfo for sample in batch_data_samples], boxes.float())[:, None]
        proposals = bbox_cxcywh_to_xyxy(boxes.float()) * sizes
        if is_fixed_size():
            return [self._fixed_proposals(x[0].shape[0], proposals, sizes, features)]
        return [
            InstanceData(bboxes=box, imgs_whwh=size.expand(self.num_proposals, -1), features=features)
            for box, size in zip(proposals, sizes)
        ]

    def _fixed_proposals(self, images: int, boxes: Tensor, sizes: Tensor, features: Tensor) -> InstanceData:
        """The proposals of all images as the one result of a batch."""
        rows = images, self.num_proposals, -1
        fields = dict(bboxes=boxes.expand(rows), imgs_whwh=sizes.expand(rows), features=features.expand(rows))
        return fixed_instances(fields)

    def loss(self, *args: Any, **kwargs: Any) -> dict:
        """Proposals have no loss of their own.

        Raises:
            NotImplementedError: always.
        """
        raise UserNotImplementedError('EmbeddingRPNHead has no loss; call predict or loss_and_predict')

    def predict(self, x: tuple[Tensor, ...], batch_data_samples: SampleList, **kwargs: Any) -> InstanceList:
        """Proposals of each image."""
        return self._decode_init_proposals(x, batch_data_samples)

    def loss_and_predict(
        self, x: tuple[Tensor, ...], batch_data_samples: SampleList, **kwargs: Any
    ) -> tuple[dict, InstanceList]:
        """No losses, and the proposals of each image."""
        return {}, self._decode_init_proposals(x, batch_data_samples)

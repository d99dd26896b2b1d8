"""What detectors with queries share. Letters: B images, S cells of all levels, Q queries, C channels."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmdet.models.core import padded_cells
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig

from .base import BaseDetector

# What a head needs for its loss alone.
LOSS_INPUTS = (
    'enc_outputs_class',
    'enc_outputs_coord',
    'enc_outputs_feature',
    'aux_enc_outputs_class',
    'aux_enc_outputs_coord',
    'dn_meta',
)


@MODELS.register_module()
class DetectionTransformer(BaseDetector, metaclass=ABCMeta):
    """A detector whose transformer turns queries into detections.

    :meth:`forward_transformer` calls, in order, :meth:`pre_transformer`, :meth:`forward_encoder`, :meth:`pre_decoder`
    and :meth:`forward_decoder`; each returns the arguments of what comes after it.

    Args:
        encoder, decoder, positional_encoding: Arguments of the modules that :meth:`_init_layers` builds.
        num_queries: Q.
        train_cfg, test_cfg: Handed to the head.
    """

    def __init__(
        self,
        backbone: ConfigType,
        neck: OptConfigType = None,
        encoder: OptConfigType = None,
        decoder: OptConfigType = None,
        bbox_head: OptConfigType = None,
        positional_encoding: OptConfigType = None,
        num_queries: int = 100,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        bbox_head = copy.copy(bbox_head)  # what the user passed stays as it is
        bbox_head.update(train_cfg=train_cfg, test_cfg=test_cfg)
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self.encoder = encoder
        self.decoder = decoder
        self.positional_encoding = positional_encoding
        self.num_queries = num_queries
        self._build_features(backbone, neck)
        self.bbox_head = MODELS.build(bbox_head)
        self._init_layers()

    @abstractmethod
    def _init_layers(self) -> None:
        """Build modules in the place of the configs ``positional_encoding``, ``encoder`` and ``decoder``."""

    def _init_coders(self) -> None:
        """Xavier initialisation of the matrices of encoder and decoder."""
        for coder in (self.encoder, self.decoder):
            for parameter in coder.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        return self._extract_feat_of(batch_inputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict | list:
        outputs = self.forward_transformer(self.extract_feat(batch_inputs), batch_data_samples)
        return self.bbox_head.loss(**outputs, batch_data_samples=batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        outputs = self.forward_transformer(self.extract_feat(batch_inputs), batch_data_samples)
        results = self.bbox_head.predict(**outputs, rescale=rescale, batch_data_samples=batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple[Tensor, ...]:
        """Outputs of the head; without samples no cell is padding."""
        outputs = self.forward_transformer(self.extract_feat(batch_inputs), batch_data_samples)
        return self.bbox_head.forward(**{k: v for k, v in outputs.items() if k not in LOSS_INPUTS})

    def forward_transformer(self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None) -> dict:
        """What the head takes, of feature maps ``[(B, C, H, W)]``."""
        encoder_inputs, decoder_inputs = self.pre_transformer(img_feats, batch_data_samples)
        encoder_outputs = self.forward_encoder(**encoder_inputs)
        queries, head_inputs = self.pre_decoder(**encoder_outputs)
        decoder_inputs.update(queries)
        head_inputs.update(self.forward_decoder(**decoder_inputs))
        return head_inputs

    @abstractmethod
    def pre_transformer(self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None) -> tuple:
        """Two dicts: arguments of :meth:`forward_encoder`, and such of :meth:`forward_decoder` as are known."""

    @abstractmethod
    def forward_encoder(self, feat: Tensor, feat_mask: Tensor, feat_pos: Tensor, **kwargs: Any) -> dict:
        """Arguments of :meth:`pre_decoder`, with ``memory (B, S, C)`` among them."""

    @abstractmethod
    def pre_decoder(self, memory: Tensor, **kwargs: Any) -> tuple[dict, dict]:
        """Two dicts: further arguments of :meth:`forward_decoder`, and arguments of the head."""

    @abstractmethod
    def forward_decoder(self, query: Tensor, query_pos: Tensor, memory: Tensor, **kwargs: Any) -> dict:
        """Arguments of the head, with ``hidden_states (L, B, Q, C)`` among them."""


def padding_masks(maps: Sequence[Tensor], samples: OptSampleList) -> list[Tensor] | None:
    """As :func:`padded_cells`, of the images that ``samples`` tell of; None without any."""
    return padded_cells(maps, [sample.metainfo for sample in samples or ()])

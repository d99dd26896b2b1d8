"""Boxes by a grid of points (Grid R-CNN, arXiv:1811.12030; Grid R-CNN Plus, arXiv:1906.05688).

Letters: K regions, g points, column by column, c channels of a point, h and w of a heatmap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdet.errors import UserValueError
from mmdet.models.core import RoISamples, by_batch, constant, in_float32
from mmdet.models.task_modules.joints import as_samples
from mmdet.registry import MODELS
from mmdet.utils import ConfigType, InstanceList, MultiConfig, OptConfigType

LOG_ODDS = math.log(0.99 / 0.01)  # against a cell before anything is learnt


@MODELS.register_module()
class GridHead(BaseModule):
    """A heatmap of each point of a square grid over a region of twice the size, fused with those of its neighbours.

    A heatmap covers a half of that region along each axis, the one in which its point belongs (Plus, Sec. 3.2).

    Args:
        grid_points: Number of points g, a square.
        point_feat_channels: Channels c of each point.
    """

    def __init__(
        self,
        grid_points: int = 9,
        num_convs: int = 8,
        roi_feat_size: int = 14,
        in_channels: int = 256,
        conv_kernel_size: int = 3,
        point_feat_channels: int = 64,
        deconv_kernel_size: int = 4,
        class_agnostic: bool = False,
        loss_grid: ConfigType = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=15),
        conv_cfg: OptConfigType = None,
        norm_cfg: ConfigType = dict(type='GN', num_groups=36),
        init_cfg: MultiConfig = [
            dict(type='Kaiming', layer=['Conv2d', 'Linear']),
            dict(
                type='Normal',
                layer='ConvTranspose2d',
                std=0.001,
                override=dict(type='Normal', name='deconv2', std=0.001, bias=-LOG_ODDS),
            ),
        ],
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.grid_points, self.grid_size = grid_points, math.isqrt(grid_points)
        if self.grid_size**2 != grid_points or self.grid_size < 2:
            raise UserValueError(f'grid_points={grid_points} must be a square of at least 4')
        if norm_cfg['type'] != 'GN' or point_feat_channels * grid_points % norm_cfg['num_groups']:
            raise UserValueError(
                f'GridHead needs a group norm whose num_groups divides {point_feat_channels * grid_points} channels, '
                f'not {norm_cfg}'
            )
        self.num_convs, self.roi_feat_size, self.in_channels = num_convs, roi_feat_size, in_channels
        self.conv_kernel_size, self.class_agnostic = conv_kernel_size, class_agnostic
        self.point_feat_channels = point_feat_channels
        self.conv_out_channels = width = point_feat_channels * grid_points
        self.conv_cfg, self.norm_cfg = conv_cfg, norm_cfg
        self.convs = nn.Sequential(
            *(
                ConvModule(
                    width if i else in_channels,
                    width,
                    conv_kernel_size,
                    stride=1 if i else 2,
                    padding=conv_kernel_size // 2,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                    bias=True,
                )
                for i in range(num_convs)
            )
        )
        deconv: dict = dict(stride=2, padding=(deconv_kernel_size - 2) // 2, groups=grid_points)
        self.deconv1 = nn.ConvTranspose2d(width, width, deconv_kernel_size, **deconv)
        self.norm1 = nn.GroupNorm(grid_points, width)
        self.deconv2 = nn.ConvTranspose2d(width, grid_points, deconv_kernel_size, **deconv)
        self.neighbor_points = [self._neighbors(point) for point in range(grid_points)]
        self.forder_trans, self.sorder_trans = self._transitions(), self._transitions()
        self.whole_map_size = roi_feat_size * 4
        self.sub_regions = self.calc_sub_regions()
        self.loss_grid = MODELS.build(loss_grid)

    def _neighbors(self, point: int) -> list[int]:
        """Points beside one, above and below it."""
        side, places = self.grid_size, [divmod(other, self.grid_size) for other in range(self.grid_points)]
        column, row = places[point]
        near = lambda place: abs(place[0] - column) + abs(place[1] - row) == 1
        return [x * side + y for x, y in places if near((x, y))]

    def _transitions(self) -> nn.ModuleList:
        """For each pair of neighbours what is sent from one to the other (Sec. 3.3)."""
        c = self.point_feat_channels
        pair = lambda: nn.Sequential(nn.Conv2d(c, c, 5, padding=2, groups=c), nn.Conv2d(c, c, 1))
        return nn.ModuleList(nn.ModuleList(pair() for _ in sources) for sources in self.neighbor_points)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Logits ``(K, g, h, w)`` of features ``(K, C, roi_feat_size, roi_feat_size)``: ``fused`` and ``unfused``.

        They differ in training alone.
        """
        own = self.convs(x).unflatten(1, (self.grid_points, -1))  # (K, g, c, h / 4, w / 4)
        first = own + self._received(own, self.forder_trans)
        fused = self._heatmaps(own + self._received(first, self.sorder_trans))
        return dict(fused=fused, unfused=self._heatmaps(own) if self.training else fused)

    def _received(self, feats: Tensor, transitions: nn.ModuleList) -> Tensor:
        """What each point gets from its neighbours, ``(K, g, c, h, w)``."""
        layers_of = [list(layers.children()) for layers in transitions.children()]
        pairs = zip(layers_of, self.neighbor_points)
        sums = [sum(layer(feats[:, source]) for layer, source in zip(*pair)) for pair in pairs]
        return torch.stack(sums, 1)  # type: ignore[arg-type]  # of at least one tensor each

    def _heatmaps(self, feats: Tensor) -> Tensor:
        return self.deconv2(F.relu(self.norm1(self.deconv1(feats.flatten(1, 2)))))

    def calc_sub_regions(self) -> list[tuple[int, int, int, int]]:
        """x1 y1 x2 y2 of the part of the whole map that each point's heatmap covers."""
        half, last = self.whole_map_size // 4 * 2, self.grid_size - 1
        starts = [max(int((i / last - 0.25) * self.whole_map_size), 0) for i in range(last)] + [half]
        return [(x, y, x + half, y + half) for x in starts for y in starts]

    @by_batch
    def get_targets(self, sampling_results: RoISamples | Sequence, rcnn_train_cfg: ConfigDict) -> Tensor:
        """Heatmaps ``(K, g, h, w)`` of positives: 1 within ``pos_radius`` of the point's place in the ground truth.

        All of a region is 0 whose doubled width or height is not above ``grid_size`` pixels.
        """
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        boxes, truth = samples.positives.rows('boxes', 'gt_boxes')
        size = (boxes[:, 2:] - boxes[:, :2]) * 2
        corner = boxes[:, :2] - size / 4
        step = torch.arange(self.grid_size, device=boxes.device) / (self.grid_size - 1)
        grid = torch.stack([step.repeat_interleave(self.grid_size), step.repeat(self.grid_size)], 1)  # (g, 2): x, y
        points = truth[:, None, :2] * (1 - grid) + truth[:, None, 2:] * grid  # (K, g, 2)
        usable = (size > self.grid_size).all(1)
        extent = torch.where(usable[:, None], size, 1.0)[:, None]
        centers = ((points - corner[:, None]) / extent * self.whole_map_size).trunc()
        centers = centers - constant(self.sub_regions, boxes)[:, :2]  # within the part
        x, y = centers.unbind(-1)
        cells = torch.arange(self.whole_map_size // 4 * 2, device=boxes.device)
        distance = (cells - x[..., None]).square()[:, :, None] + (cells - y[..., None]).square()[..., None]
        return ((distance <= rcnn_train_cfg.pos_radius**2) & usable[:, None, None, None]).to(boxes.dtype)

    @by_batch
    def loss(
        self,
        grid_pred: dict[str, Tensor],
        sample_idx: Tensor,
        sampling_results: RoISamples | Sequence,
        rcnn_train_cfg: ConfigDict,
    ) -> dict:
        """``loss_grid`` of the fused and the unfused heatmaps of the rows ``sample_idx`` of positives."""
        samples = sampling_results if isinstance(sampling_results, RoISamples) else as_samples(sampling_results)
        targets = self.get_targets(samples, rcnn_train_cfg)[sample_idx]
        used = samples.positives.rows('pos')[0][sample_idx].to(targets.dtype)
        count = used.sum().clamp(min=1) * targets[:1].numel() if len(targets) else 1.0
        losses = [self.loss_grid(grid_pred[name], targets, used, avg_factor=count) for name in ('fused', 'unfused')]
        return dict(loss_grid=sum(losses))

    def predict_by_feat(
        self,
        grid_preds: dict[str, Tensor],
        results_list: InstanceList,
        batch_img_metas: list[dict],
        rescale: bool = False,
    ) -> InstanceList:
        """Put boxes by the grid into the detections of each image; heatmaps are those of all images' detections."""
        counts = [len(results.bboxes) for results in results_list]
        for results, pred, meta in zip(results_list, grid_preds['fused'].split(counts), batch_img_metas):
            if len(results.bboxes):
                results.bboxes = self._predict_by_feat_single(pred, results.bboxes, meta, rescale)
        return results_list

    def _predict_by_feat_single(
        self, grid_pred: Tensor, bboxes: Tensor, img_meta: dict, rescale: bool = False
    ) -> Tensor:
        """:meth:`boxes_of`, of the original image if ``rescale``."""
        found = self.boxes_of(grid_pred, bboxes)
        return found / constant(img_meta['scale_factor'], found).repeat(2) if rescale else found

    @in_float32
    def boxes_of(self, grid_pred: Tensor, bboxes: Tensor) -> Tensor:
        """Boxes ``(k, 4)`` whose sides are voted for by the points on them (Sec. 3.1, Eq. 3), not clipped to the image.

        Args:
            grid_pred: Logits ``(k, g, h, w)``.
            bboxes: ``(k, 4)`` the regions in pixels of the network input.
        """
        height, width = grid_pred.shape[-2:]
        scores, places = grid_pred.sigmoid().flatten(2).max(2)  # (k, g)
        parts = constant(self.sub_regions, places)
        cells = torch.stack([places % width + parts[:, 0], places // width + parts[:, 1]], 1) + 0.5  # (k, 2, g)
        size = (bboxes[:, 2:] - bboxes[:, :2])[..., None]
        corner = bboxes[:, :2, None] - size / 2
        # A heatmap is as large as the region, half of the doubled one.
        places_x, places_y = (cells / constant([[width], [height]], cells) * size + corner).unbind(1)
        square = (-1, (self.grid_size, self.grid_size))
        x, y, weight = (value.unflatten(*square) for value in (places_x, places_y, scores))  # (k, column, row)
        vote = lambda values, weights: (values * weights).sum(1) / weights.sum(1)
        sides = [
            side for end in (0, -1) for side in (vote(x[:, end], weight[:, end]), vote(y[:, :, end], weight[:, :, end]))
        ]
        return torch.stack(sides, 1)

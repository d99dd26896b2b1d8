"""HRNet (arXiv:1908.07919)."""

from __future__ import annotations

from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn

from mmdet.errors import UserKeyError, UserValueError
from mmdet.models.backbones.base import Backbone
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.layers.building import (
    build_conv_layer,
    build_norm_layer,
    conv_norm_init_cfg,
    named_norm,
    pretrained_init_cfg,
)
from mmdet.models.layers.res_layer import ResLayer
from mmdet.registry import MODELS


class HRModule(BaseModule):
    """Residual branches of several resolutions that exchange their features at the end (Fig. 3).

    Args:
        in_channels: Channels of each branch's input, finest first; set to those of the outputs.
        num_channels: ``planes`` of each branch's blocks.
        multiscale_output: Return every branch, or the finest only.
    """

    def __init__(
        self,
        num_branches: int,
        blocks: type[BaseModule],
        num_blocks: tuple[int, ...],
        in_channels: list[int],
        num_channels: tuple[int, ...],
        multiscale_output: bool = True,
        with_cp: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        block_init_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value in dict(num_blocks=num_blocks, num_channels=num_channels, in_channels=in_channels).items():
            if len(value) != num_branches:
                raise UserValueError(f'{name}={value} must name each of the {num_branches} branches')
        self.num_branches = num_branches
        self.multiscale_output = multiscale_output
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.with_cp = with_cp
        self.branches = ModuleList(
            ResLayer(
                blocks,
                in_channels[i],
                num_channels[i],
                num_blocks[i],
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
                with_cp=with_cp,
                init_cfg=block_init_cfg,
            )
            for i in range(num_branches)
        )
        self.in_channels = [channels * blocks.expansion for channels in num_channels]
        self.fuse_layers = self._make_fuse_layers()
        self.relu = nn.ReLU(inplace=False)

    def _make_fuse_layers(self) -> ModuleList | None:
        if self.num_branches == 1:
            return None
        channels = self.in_channels
        layers = ModuleList()
        for i in range(self.num_branches if self.multiscale_output else 1):
            row = ModuleList()
            for j in range(self.num_branches):
                if j > i:
                    up = nn.Upsample(scale_factor=2 ** (j - i), mode='nearest')
                    row.append(nn.Sequential(*self._conv_norm(channels[j], channels[i], 1), up))
                elif j == i:
                    row.append(None)
                else:
                    steps = [
                        nn.Sequential(*self._conv_norm(channels[j], channels[j], 3), nn.ReLU(inplace=False))
                        for _ in range(i - j - 1)
                    ]
                    row.append(nn.Sequential(*steps, nn.Sequential(*self._conv_norm(channels[j], channels[i], 3))))
            layers.append(row)
        return layers

    def _conv_norm(self, in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
        stride, padding = (2, 1) if kernel_size == 3 else (1, 0)
        conv = build_conv_layer(
            self.conv_cfg, in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False
        )
        return conv, build_norm_layer(self.norm_cfg, out_channels)[1]

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Maps of all branches, finest first -> as many, or the finest alone without ``multiscale_output``."""
        x = [branch(level) for branch, level in zip(self.branches, x, strict=True)]
        if self.fuse_layers is None:
            return x
        outs = []
        for row in self.fuse_layers:
            fused = sum(level if fuse is None else fuse(level) for fuse, level in zip(row, x, strict=True))
            outs.append(self.relu(fused))
        return outs


@MODELS.register_module()
class HRNet(Backbone):
    """High-resolution network, returning the branches of the last stage, finest first, at strides 4, 8, 16 and 32.

    Args:
        extra: ``stage1`` to ``stage4``, each ``dict(num_modules=, num_branches=, block='BASIC' or 'BOTTLENECK',
            num_blocks=, num_channels=)``.
        multiscale_output: Return every branch of the last stage, or the finest only.
    """

    blocks_dict = {'BASIC': BasicBlock, 'BOTTLENECK': Bottleneck}
    norm1, norm2 = named_norm(1), named_norm(2)

    def __init__(
        self,
        extra: dict,
        in_channels: int = 3,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        norm_eval: bool = True,
        with_cp: bool = False,
        zero_init_residual: bool = False,
        multiscale_output: bool = True,
        pretrained: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(pretrained_init_cfg(pretrained, init_cfg, conv_norm_init_cfg()))
        for i in range(1, 5):
            stage = extra.get(f'stage{i}')
            if stage is None:
                raise UserKeyError(f'extra lacks stage{i}; it has {", ".join(extra) or "nothing"}')
            if not len(stage['num_blocks']) == len(stage['num_channels']) == stage['num_branches']:
                raise UserValueError(f'stage{i} must give num_blocks and num_channels for each branch, got {stage}')
        self.extra = extra
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.zero_init_residual = zero_init_residual

        self.norm1_name, norm1 = build_norm_layer(norm_cfg, 64, postfix=1)
        self.norm2_name, norm2 = build_norm_layer(norm_cfg, 64, postfix=2)
        self.conv1 = build_conv_layer(conv_cfg, in_channels, 64, 3, stride=2, padding=1, bias=False)
        self.add_module(self.norm1_name, norm1)
        self.conv2 = build_conv_layer(conv_cfg, 64, 64, 3, stride=2, padding=1, bias=False)
        self.add_module(self.norm2_name, norm2)
        self.relu = nn.ReLU(inplace=True)

        self.stage1_cfg = extra['stage1']
        block = self.blocks_dict[self.stage1_cfg['block']]
        planes = self.stage1_cfg['num_channels'][0]
        self.layer1 = ResLayer(
            block,
            64,
            planes,
            self.stage1_cfg['num_blocks'][0],
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            with_cp=with_cp,
            init_cfg=self._block_init_cfg(block),
        )
        channels = [planes * block.expansion]
        for i in (2, 3, 4):
            cfg = extra[f'stage{i}']
            setattr(self, f'stage{i}_cfg', cfg)
            expansion = self.blocks_dict[cfg['block']].expansion
            wanted = [width * expansion for width in cfg['num_channels']]
            self.add_module(f'transition{i - 1}', self._make_transition_layer(channels, wanted))
            stage, channels = self._make_stage(cfg, wanted, multiscale_output if i == 4 else True)
            self.add_module(f'stage{i}', stage)

    def _block_init_cfg(self, block: type[BaseModule]) -> dict | None:
        if not self.zero_init_residual:
            return None
        return dict(type='Constant', val=0, override=dict(name='norm2' if block is BasicBlock else 'norm3'))

    def _make_transition_layer(self, before: list[int], after: list[int]) -> nn.ModuleList:
        def step(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                build_conv_layer(self.conv_cfg, in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
                build_norm_layer(self.norm_cfg, out_channels)[1],
                nn.ReLU(inplace=True),
            )

        layers = nn.ModuleList()
        for i, channels in enumerate(after):
            if i < len(before):
                layers.append(None if channels == before[i] else step(before[i], channels, 1))
            else:
                widths = [before[-1]] * (i - len(before) + 1) + [channels]
                layers.append(nn.Sequential(*(step(a, b, 2) for a, b in zip(widths, widths[1:], strict=False))))
        return layers

    def _make_stage(
        self, layer_config: dict, in_channels: list[int], multiscale_output: bool = True
    ) -> tuple[Sequential, list[int]]:
        block = self.blocks_dict[layer_config['block']]
        modules = []
        for i in range(layer_config['num_modules']):
            module = HRModule(
                layer_config['num_branches'],
                block,
                layer_config['num_blocks'],
                in_channels,
                layer_config['num_channels'],
                multiscale_output or i < layer_config['num_modules'] - 1,
                with_cp=self.with_cp,
                conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg,
                block_init_cfg=self._block_init_cfg(block),
            )
            in_channels = module.in_channels
            modules.append(module)
        return Sequential(*modules), in_channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images -> the maps of all branches, finest first."""
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        branches = [self.layer1(x)]
        for i in (2, 3, 4):
            transitions = getattr(self, f'transition{i - 1}')
            known = len(branches)
            inputs = []
            for j, transition in enumerate(transitions):
                source = branches[j] if j < known else branches[-1]
                inputs.append(source if transition is None else transition(source))
            branches = getattr(self, f'stage{i}')(inputs)
        return tuple(branches)

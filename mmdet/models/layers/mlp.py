from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer
from mmcv.cnn.bricks.drop import build_dropout
from mmcv.cnn.bricks.scale import LayerScale
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmdet.errors import UserValueError

RELU = nn.ReLU()


def each_through(branches: Sequence[nn.Module], states: Sequence[Tensor] | Tensor) -> Tensor:
    """``(L, ..., out)`` of L states ``(..., C)``, each by the branch at its place; linear layers that are alike, and
    chains of such and of ReLU, in one product for all of them."""
    branches = list(branches)[: len(states)]
    chains = [_steps(branch) for branch in branches]
    if len(chains) == 1 or any(len(chain) != len(chains[0]) for chain in chains) or not _alike(zip(*chains)):
        return torch.stack([branch(state) for branch, state in zip(branches, states)])
    x = states if isinstance(states, Tensor) else torch.stack(list(states))
    inner = x.shape[1:-1]
    x = x.flatten(1, -2)  # (L, N, C)
    for step in zip(*chains):
        if isinstance(step[0], nn.ReLU):
            x = x.relu()
        else:
            weights, biases = (torch.stack([getattr(layer, name) for layer in step]) for name in ('weight', 'bias'))
            x = torch.baddbmm(biases[:, None], x, weights.transpose(1, 2))
    return x.unflatten(1, inner)


def _steps(branch: nn.Module) -> list[nn.Module]:
    """The modules that a branch runs one after the other, unless somebody watches it."""
    if _is_watched(branch):
        return [branch]
    if type(branch) is MLP:
        return [step for layer in branch.layers for step in (layer, RELU)][:-1]
    return list(branch) if type(branch) is nn.Sequential else [branch]


def _is_watched(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _alike(steps: Iterable[tuple[nn.Module, ...]]) -> bool:
    """Whether each step is ReLU in all chains, or a linear layer of one shape, with bias, that nobody watches."""
    for layers in steps:
        if all(type(layer) is nn.ReLU for layer in layers):
            continue
        shapes = {_shape_of_plain(layer) for layer in layers}
        if len(shapes) > 1 or None in shapes:
            return False
    return True


def _shape_of_plain(layer: nn.Module) -> tuple[int, int] | None:
    """Of the weight of a linear layer with bias that nobody watches; None for all others."""
    if type(layer) is not nn.Linear or layer.bias is None or _is_watched(layer):
        return None
    return layer.out_features, layer.in_features


class MLP(BaseModule):
    """Linear layers with ReLU between them (the box head of DETR, arXiv:2005.12872)."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        dims = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = ModuleList(nn.Linear(a, b) for a, b in zip(dims, dims[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` -> ``(..., out)``, with ReLU between the layers."""
        for layer in list(self.layers)[:-1]:
            x = layer(x).relu_()
        return self.layers[-1](x)


class GatedMLP(BaseModule):
    """A hidden layer that is the product of two, one of them through SiLU (SwiGLU, arXiv:2002.05202).

    Both come of one projection ``w12``, first the one through SiLU.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(embed_dims, 2 * hidden_dims)
        self.w3 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` of the same."""
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class FFN(BaseModule):
    """The feed-forward block of a transformer, with the parameter names and arguments of mmcv's.

    mmcv's own lies in a module that warns when it is imported without compiled ops.

    Args:
        dropout_layer: Config of what follows the block, e.g. ``dict(type='DropPath', drop_prob=0.1)``.
        add_identity: Add the input (or ``identity``) to the output.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        feedforward_channels: int = 1024,
        num_fcs: int = 2,
        act_cfg: dict = dict(type='ReLU', inplace=True),
        ffn_drop: float = 0.0,
        dropout_layer: dict | None = None,
        add_identity: bool = True,
        init_cfg: dict | list[dict] | None = None,
        layer_scale_init_value: float = 0.0,
    ) -> None:
        super().__init__(init_cfg)
        if num_fcs < 2:
            raise UserValueError(f'num_fcs must be at least 2, got {num_fcs}')
        self.embed_dims = embed_dims
        self.feedforward_channels = feedforward_channels
        self.num_fcs = num_fcs
        dims = [embed_dims, *[feedforward_channels] * (num_fcs - 1)]
        hidden = [
            nn.Sequential(nn.Linear(a, b), build_activation_layer(act_cfg), nn.Dropout(ffn_drop))
            for a, b in zip(dims, dims[1:], strict=False)
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(dims[-1], embed_dims), nn.Dropout(ffn_drop))
        self.dropout_layer = build_dropout(dropout_layer) if dropout_layer else nn.Identity()
        self.add_identity = add_identity
        scaled = layer_scale_init_value > 0
        self.gamma2 = LayerScale(embed_dims, scale=layer_scale_init_value) if scaled else nn.Identity()

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """``(..., C)`` of the same shape; ``identity``, by default ``x``, is added."""
        out = self.dropout_layer(self.gamma2(self.layers(x)))
        return out + (x if identity is None else identity) if self.add_identity else out

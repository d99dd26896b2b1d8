"""Graphs of parts of detectors take any size."""

import torch
from torch import nn

from mmdet.models.core.dynamic_masks import dynamic_logits


class Masks(nn.Module):
    def forward(self, maps, *layers):
        return dynamic_logits(maps, *layers)


def test_masks_of_predicted_layers_are_traced_with_any_size():
    layers = torch.rand(1, 5, 8, 10), torch.rand(1, 5, 1, 8), torch.rand(1, 5, 8), torch.rand(1, 5, 1)
    side = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Masks(), (torch.rand(1, 10, 6, 7), *layers), dynamic_shapes=({2: side, 3: side}, (None,) * 4), strict=False
    )
    other = torch.rand(1, 10, 4, 9)
    found = program.run_decompositions({}).module()(other, *layers)
    torch.testing.assert_close(found, dynamic_logits(other, *layers))

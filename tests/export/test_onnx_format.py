"""Operators that the exporter lacks, or writes wrongly for sizes that are not known."""

import numpy as np
import pytest
import torch

from mmdet.export.onnx_format import OPSET, translations
from mmdet.models.core import stable_topk
from mmdet.ops.corner_pool import corner_pool
from mmdet.ops.fixed_size import FixedSize, fixed_size


class Pools(torch.nn.Module):
    def forward(self, x):
        return tuple(corner_pool(x, mode) for mode in ('top', 'bottom', 'left', 'right'))


class Repeats(torch.nn.Module):
    def forward(self, x):
        rows = torch.arange(x.shape[2]).repeat_interleave(x.shape[3])
        return rows, x.repeat_interleave(x.shape[0], 1), x.repeat_interleave(3, -1)


class Best(torch.nn.Module):
    def forward(self, x):
        with fixed_size(FixedSize(operator=True)):
            return stable_topk(x.flatten(1), 5)  # of equal values, which x has, the first


@pytest.mark.parametrize('dynamic', [True, False])
@pytest.mark.parametrize('module', [Pools(), Repeats(), Best()])
def test_an_operator_of_any_size(module, dynamic, tmp_path):
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    axes = {0: torch.export.Dim('batch'), 2: torch.export.Dim('height'), 3: torch.export.Dim('width')}
    program = torch.export.export(module, (torch.zeros(2, 3, 9, 12),), dynamic_shapes=(axes if dynamic else None,))
    path = tmp_path / 'operator.onnx'
    table = translations()
    torch.onnx.export(
        program, opset_version=OPSET, input_names=['x'], custom_translation_table=table, dynamo=True, verbose=False
    ).save(path)
    session = runtime.InferenceSession(str(path))
    for size in [(3, 3, 5, 2), (4, 3, 2, 300)] if dynamic else [(2, 3, 9, 12)]:
        x = torch.randint(-9, 9, size, generator=torch.Generator().manual_seed(0)).float()
        for found, wanted in zip(session.run(None, {'x': x.numpy()}), module(x), strict=True):
            assert np.array_equal(found, wanted.numpy())

"""Which layers of an ONNX file are computed in 8 bits."""

from types import SimpleNamespace

import pytest

from mmdet.export.quantisation import layers_in_float, quantise


def node(kind, inputs, *outputs):
    return SimpleNamespace(op_type=kind, input=inputs.split(), output=list(outputs), name=f'{kind} {outputs[0]}')


def graph_of(*nodes, outputs='boxes'):
    weights = {name for each in nodes for name in each.input if name.startswith('w')}
    return SimpleNamespace(
        node=nodes,
        initializer=[SimpleNamespace(name=name, dims=[9] if name == 'w_line' else [8, 9]) for name in weights],
        output=[SimpleNamespace(name=name) for name in outputs.split()],
    )


def test_layers_that_predict_stay_as_they_are():
    graph = graph_of(
        node('Conv', 'images w1', 'a'),
        node('Relu', 'a', 'b'),
        node('Conv', 'b w2', 'scores'),
        node('Conv', 'b w3', 'bins'),
        node('Sigmoid', 'scores', 'surer'),
        node('TopK', 'surer count', 'top', 'index'),
        node('Softmax', 'bins', 'shares'),
        node('MatMul', 'shares w_line', 'reach'),  # the mean of a distribution: a vector, not a layer
        node('Gather', 'reach index', 'boxes'),
    )
    assert layers_in_float(graph) == ['Conv scores', 'Conv bins', 'MatMul reach']


def test_layers_before_others_are_in_8_bits_whatever_their_sizes_do():
    graph = graph_of(
        node('Conv', 'images w1', 'a'),
        node('Shape', 'a', 'size'),
        node('RoiAlign', 'a size', 'pooled'),
        node('Gemm', 'pooled w2', 'hidden'),
        node('Gemm', 'hidden w3', 'scores'),
        node('Expand', 'scores size', 'boxes'),
    )
    assert layers_in_float(graph) == ['Gemm scores']


def test_products_with_what_is_predicted_stay_as_they_are():
    graph = graph_of(
        node('Conv', 'images w1', 'a'),
        node('Conv', 'a w2', 'features'),
        node('Conv', 'a w3', 'kernels'),
        node('MatMul', 'kernels features', 'hidden'),
        node('Relu', 'hidden', 'more'),
        node('MatMul', 'more kernels', 'boxes'),
    )
    assert layers_in_float(graph) == ['Conv features', 'Conv kernels', 'MatMul hidden', 'MatMul boxes']


def test_int8_needs_pictures(tmp_path):
    with pytest.raises(ValueError, match='--pictures'):
        quantise(tmp_path / 'a.onnx', tmp_path / 'b.onnx', [])

"""Methods of mask heads that research code overrides are called, with the lists of 3.x, and their values are used."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'models' / 'dense_heads'))
from head_table import totals
from mask_table import MASK_HEADS, build_heads, maps, masked_samples

pytestmark = pytest.mark.usefixtures('default_scope')

# Detector, head, a method that knows one image or lists, and its calls for three pictures
JOINTS = [
    (name, part, '_get_targets_single', 3) for name, row in MASK_HEADS.items() for part in row if part.endswith('_head')
]
JOINTS += [
    (name, 'mask_head', method, calls)
    for name in MASK_HEADS
    if 'CondInst' in name or 'BoxInst' in name
    for method, calls in (('forward_single', 3), ('parse_dynamic_params', 2), ('dynamic_conv_forward', 2))
]
JOINTS += [(name, 'bbox_head', 'get_targets', 1) for name in MASK_HEADS if 'bbox_head' in MASK_HEADS[name]]
JOINTS += [('YOLACT', 'bbox_head', 'OHEMloss_by_feat_single', 3), ('YOLACT', 'mask_head', 'crop_mask_preds', 1)]
JOINTS += [
    (name, 'bbox_head', method, calls)
    for name in ('RTMDetInsHead', 'RTMDetInsSepBNHead')
    for method, calls in (('loss_mask_by_feat', 1), ('_mask_predict_by_feat_single', 3), ('parse_dynamic_params', 3))
]


def replace(head, method, calls):
    """Give the head a method of its own that calls the built-in one."""

    def own(self, *args, **kwargs):
        calls.append(args)
        return getattr(super(kind, self), method)(*args, **kwargs)

    kind = type(type(head).__name__, (type(head),), {method: own})
    head.__class__ = kind


@pytest.mark.parametrize(('name', 'part', 'method', 'times'), JOINTS)
def test_losses_by_own_methods(name, part, method, times):
    heads = build_heads(name, init=False)
    heads.apply(lambda module: module.eval() if 'BatchNorm' in type(module).__name__ else None)
    feats, calls = maps(name, 3), []
    expected = totals(heads.loss(feats, masked_samples('many', 'empty', 'one')))
    replace(getattr(heads, part), method, calls)
    found = totals(heads.loss(feats, masked_samples('many', 'empty', 'one')))
    assert len(calls) == times
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, k=key: f'{k}: {text}')
    none = totals(heads.loss(feats, masked_samples('empty', 'empty', 'empty')))
    assert none.keys() == expected.keys()
    assert sum(value for key, value in none.items() if 'mask' in key) == 0


@pytest.mark.parametrize(
    ('name', 'part'), [(name, part) for name, row in MASK_HEADS.items() for part in row if part.endswith('_head')]
)
def test_masks_of_one_image(name, part):
    heads = build_heads(name, init=False).eval()
    feats, calls = maps(name, 2), []
    with torch.no_grad():
        expected = heads.predict(feats, masked_samples('many', 'one'))
        replace(getattr(heads, part), '_predict_by_feat_single', calls)
        found = heads.predict(feats, masked_samples('many', 'one'))
    assert len(calls) == 2
    for one, other in zip(expected, found):
        assert torch.equal(one.pred_instances.masks, other.pred_instances.masks)


def test_instances_from_candidates_of_one_image():
    heads = build_heads('RTMDetInsSepBNHead', init=False).eval()
    feats, calls = maps('RTMDetInsSepBNHead', 2), []
    with torch.no_grad():
        expected = heads.predict(feats, masked_samples('many', 'one'))
        replace(heads.bbox_head, '_bbox_mask_post_process', calls)
        found = heads.predict(feats, masked_samples('many', 'one'))
    assert len(calls) == 2 and 'kernels' in calls[0][0]
    for one, other in zip(expected, found):
        assert torch.equal(one.pred_instances.masks, other.pred_instances.masks)
        assert 'kernels' not in other.pred_instances

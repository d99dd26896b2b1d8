"""Methods of mask heads that research code overrides are called, with the lists of 3.x, and their values are used."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'models' / 'dense_heads'))
from head_table import totals
from mask_table import MASK_HEADS, build_heads, maps, masked_samples

pytestmark = pytest.mark.usefixtures('default_scope')

# head -> methods that know one image, or lists
JOINTS = [(name, '_get_targets_single') for name in MASK_HEADS]


def replace(head, method, calls):
    """Give the head a method of its own that calls the built-in one."""

    def own(self, *args, **kwargs):
        calls.append(args)
        return getattr(super(kind, self), method)(*args, **kwargs)

    kind = type(type(head).__name__, (type(head),), {method: own})
    head.__class__ = kind


@pytest.mark.parametrize(('name', 'method'), JOINTS)
def test_targets_of_one_image(name, method):
    heads = build_heads(name, init=False)
    heads.apply(lambda module: module.eval() if 'BatchNorm' in type(module).__name__ else None)
    feats, calls = maps(name, 3), []
    expected = totals(heads.loss(feats, masked_samples('many', 'empty', 'one')))
    replace(heads.mask_head, method, calls)
    found = totals(heads.loss(feats, masked_samples('many', 'empty', 'one')))
    assert len(calls) == 3
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, k=key: f'{k}: {text}')
    none = totals(heads.loss(feats, masked_samples('empty', 'empty', 'empty')))
    assert none.keys() == expected.keys() and none['loss_mask'] == 0


@pytest.mark.parametrize('name', MASK_HEADS)
def test_masks_of_one_image(name):
    heads = build_heads(name, init=False).eval()
    feats, calls = maps(name, 2), []
    with torch.no_grad():
        expected = heads.predict(feats, masked_samples('many', 'one'))
        replace(heads.mask_head, '_predict_by_feat_single', calls)
        found = heads.predict(feats, masked_samples('many', 'one'))
    assert len(calls) == 2
    for one, other in zip(expected, found):
        assert torch.equal(one.pred_instances.masks, other.pred_instances.masks)

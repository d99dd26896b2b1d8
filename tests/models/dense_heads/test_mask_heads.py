"""What all heads share that predict masks without regions."""

import pytest
import torch
from fake_gpu import WaitingCopies
from head_table import IMAGE, NUM_CLASSES, totals
from mask_table import MASK_HEADS, build_heads, maps, masked_samples
from torch._subclasses.fake_tensor import FakeTensorMode

import mmdet.models.core.dynamic_masks as dynamic_masks
from mmdet.structures.mask import PolygonMasks

pytestmark = pytest.mark.usefixtures('default_scope')

NAMES = list(MASK_HEADS)


def loss_of(heads, name, *kinds, feats=None):
    feats = maps(name, len(kinds)) if feats is None else feats
    return totals(heads.loss(feats, masked_samples(*kinds)))


def frozen_norms(heads):
    heads.apply(lambda module: module.eval() if 'BatchNorm' in type(module).__name__ else None)
    return heads


def test_every_mask_head_is_in_the_table():
    import mmdet.models.dense_heads as package
    from mmdet.models.dense_heads import BaseMaskHead

    kinds = {getattr(package, name) for name in package.__all__}
    names = {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, BaseMaskHead)} - {'BaseMaskHead'}
    assert names == {row['mask_head']['type'] for row in MASK_HEADS.values() if 'mask_head' in row}


@pytest.mark.parametrize('kinds', [('many', 'one'), ('many', 'empty'), ('empty', 'empty')], ids='-'.join)
@pytest.mark.parametrize('name', NAMES)
def test_losses_are_finite_and_reach_every_parameter(name, kinds):
    heads = build_heads(name)
    losses = loss_of(heads, name, *kinds)
    assert set(losses) == set(loss_of(heads, name, 'many', 'many'))
    assert all(value.isfinite() for value in losses.values()), losses
    sum(losses.values()).backward()
    assert not [key for key, value in heads.named_parameters() if value.grad is None]
    assert all(value.grad.isfinite().all() for value in heads.parameters())
    of_masks = sum(value for key, value in losses.items() if 'mask' in key)
    assert of_masks > 0 if kinds[0] == 'many' else of_masks == 0


@pytest.mark.parametrize('name', NAMES)
def test_order_of_images_and_their_repetition_do_not_matter(name):
    heads = frozen_norms(build_heads(name, init=False))
    feats = maps(name, 2)
    first = loss_of(heads, name, 'many', 'one', feats=feats)
    turned = loss_of(heads, name, 'one', 'many', feats=tuple(level.flip(0) for level in feats))
    twice = loss_of(heads, name, *['many', 'one'] * 2, feats=tuple(level.repeat(2, 1, 1, 1) for level in feats))
    for key, value in first.items():
        torch.testing.assert_close(turned[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, k=key: f'{k}: {text}')
        if 'RTMDet' not in name:  # whose classes are divided by at least 1
            torch.testing.assert_close(twice[key], value, rtol=0.05, atol=1e-5, msg=lambda text, k=key: f'{k}: {text}')


@pytest.mark.parametrize('name', NAMES)
def test_parts_change_neither_losses_nor_gradients(name, monkeypatch):
    results = []
    for budget in (dynamic_masks.ACTIVATION_BUDGET, 1):
        for kind in ('ACTIVATION_BUDGET', 'TILE_BUDGET', 'PRODUCT_BUDGET'):
            monkeypatch.setattr(dynamic_masks, kind, budget)
        heads = build_heads(name, init=False)
        losses = loss_of(heads, name, 'many', 'one')
        sum(losses.values()).backward()
        results.append((losses, {key: value.grad for key, value in heads.named_parameters()}))
    for whole, parts in zip(*results):
        for key, value in whole.items():
            torch.testing.assert_close(parts[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, k=key: f'{k}: {text}')


@pytest.mark.parametrize('name', NAMES)
def test_slots_of_which_the_host_knows_bounds_alone_give_the_same(name, monkeypatch):
    heads = frozen_norms(build_heads(name, init=False))
    expected = loss_of(heads, name, 'many', 'empty')
    monkeypatch.setattr(dynamic_masks, 'is_at_hand', lambda tensor: False)  # as on a GPU
    monkeypatch.setattr(dynamic_masks, 'ACTIVATION_BUDGET', 2**17)
    for key, value in loss_of(heads, name, 'many', 'empty').items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5, msg=lambda text, k=key: f'{k}: {text}')


@pytest.mark.parametrize('name', NAMES)
def test_polygons_are_learned_from_like_their_bitmaps(name):
    heads = frozen_norms(build_heads(name, init=False))
    batches = [masked_samples('many', 'one') for _ in range(2)]
    for drawn, bitmaps in zip(*batches):
        boxes = drawn.gt_instances.bboxes.numpy()
        outlines = PolygonMasks([[box[[0, 1, 2, 1, 2, 3, 0, 3]]] for box in boxes], *IMAGE)
        drawn.gt_instances.masks = outlines
        bitmaps.gt_instances.masks = type(bitmaps.gt_instances.masks)(outlines.to_ndarray(), *IMAGE)
    first, second = (totals(heads.loss(maps(name, 2), batch)) for batch in batches)
    for key, value in first.items():
        torch.testing.assert_close(second[key], value)


@pytest.mark.parametrize('name', NAMES)
def test_predictions(name):
    heads = build_heads(name, init=False).eval()
    feats = maps(name, 2)
    with torch.no_grad():
        batch = heads.predict(feats, masked_samples('many', 'one'), rescale=True)
        single = heads.predict(tuple(level[1:] for level in feats), masked_samples('one'), rescale=True)[0]
    for sample, width in zip(batch, (64, 48)):
        found = sample.pred_instances
        assert 0 < len(found) <= 10
        assert found.masks.shape == (len(found), 64, width) and found.masks.dtype == torch.bool
        assert found.bboxes.shape == (len(found), 4)
        assert found.labels.dtype == torch.long and found.labels.max() < NUM_CLASSES
        assert (found.scores[:-1] >= found.scores[1:]).all()
    torch.testing.assert_close(batch[1].pred_instances.scores, single.pred_instances.scores)
    assert torch.equal(batch[1].pred_instances.masks, single.pred_instances.masks)
    for head in (heads.bbox_head, heads.mask_head):
        if head is not None:
            head.test_cfg.score_thr = 1.0
    with torch.no_grad():
        none = heads.predict(feats, masked_samples('many', 'one'), rescale=True)
    assert [sample.pred_instances.masks.shape for sample in none] == [(0, 64, 64), (0, 64, 48)]


@pytest.mark.parametrize('name', NAMES)
def test_the_loss_never_looks_at_the_data(name):
    batch = packed('many', 'empty')
    with FakeTensorMode(allow_non_fake_inputs=True):
        heads = build_heads(name, init=False)
        losses = totals(heads.loss(maps(name, 2), batch))
        sum(losses.values()).backward()
    assert losses


def packed(*kinds):
    batch = masked_samples(*kinds)
    for sample in batch:
        sample.gt_instances.masks = sample.gt_instances.masks.packed()
    return batch


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('name', NAMES)
def test_the_host_never_waits_for_a_gpu(name):
    batch = packed('many', 'empty')
    with FakeTensorMode(allow_non_fake_inputs=True):
        heads = build_heads(name, init=False)
        for module in heads.modules():
            for tensors, kind in ((module._parameters, torch.nn.Parameter), (module._buffers, torch.Tensor.detach)):
                tensors.update({key: kind(x.detach().to('cuda')) for key, x in tensors.items() if x is not None})
        feats, data = tuple(level.to('cuda') for level in maps(name, 2)), [sample.to('cuda') for sample in batch]
        with WaitingCopies() as copies:
            losses = totals(heads.loss(feats, data))
    assert all(value.device.type == 'cuda' for value in losses.values())
    assert not copies.found


@pytest.mark.gpu
@pytest.mark.parametrize('name', NAMES)
def test_a_gpu_gives_the_losses_of_the_cpu_and_waits_for_nothing(name):
    heads = build_heads(name, init=False)
    expected = loss_of(heads, name, 'many', 'one')
    feats, data = tuple(level.cuda() for level in maps(name, 2)), [one.to('cuda') for one in packed('many', 'one')]
    heads = heads.cuda()
    totals(heads.loss(feats, data))  # fills the caches of priors
    torch.cuda.set_sync_debug_mode('error')
    try:
        losses = totals(heads.loss(feats, data))
        sum(losses.values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for key, value in expected.items():
        torch.testing.assert_close(losses[key].cpu(), value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['SOLOHead', 'DecoupledSOLOLightHead', 'SOLOV2Head deformable'])
def test_one_graph(name, one_graph):
    heads = build_heads(name, init=False).eval()
    feats = maps(name, 2)
    torch.testing.assert_close(one_graph(heads.mask_head, feats), heads.mask_head(feats))

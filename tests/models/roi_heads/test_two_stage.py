"""Every two-stage detector: full, half-empty and empty batches, and prediction."""

import os
import re
import socket
from datetime import timedelta

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn
from two_stage_table import IMAGE, SEMANTIC, TABLE, build, htc, images, sample, total

from mmdet.engine.compilation import networks
from mmdet.models.roi_heads import bbox_heads, mask_heads
from mmdet.models.roi_heads.bbox_heads.convfc_bbox_head import flat_linear
from mmdet.registry import MODELS


@pytest.fixture(autouse=True)
def _scope(default_scope):
    """Every test builds by name."""


OF_POSITIVES = re.compile(r'loss_(bbox|bbox_cls|bbox_reg|grid|mask|mask_iou|point)$')


@pytest.mark.parametrize('name', TABLE)
def test_losses(name):
    model = build(name).train()
    keys = None
    for counts in ((3, 2), (3, 0), (0, 0)):
        model.zero_grad()
        losses, loss = total(model.loss(images(), [sample(n, seed) for seed, n in enumerate(counts)]))
        loss.backward()
        keys = keys or set(losses)
        assert set(losses) == keys
        assert all(torch.isfinite(value).all() for value in losses.values()), (counts, losses)
        missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing, (counts, missing)
        if counts == (0, 0):
            assert all(value == 0 for key, value in losses.items() if OF_POSITIVES.search(key))


@pytest.mark.parametrize('name', TABLE)
def test_predictions(name):
    model = build(name).eval()
    with torch.no_grad():
        batch = model.predict(images(), [sample(1), sample(0)], rescale=False)
        alone = model.predict(images()[:1], [sample(1)], rescale=False)
    if 'pred_panoptic_seg' in batch[0]:
        first, single = batch[0].pred_panoptic_seg.sem_seg, alone[0].pred_panoptic_seg.sem_seg
        assert first.shape == (1, *IMAGE) and first.dtype == torch.int32
        assert (first != single).float().mean() < 0.01
        return
    first, single = batch[0].pred_instances, alone[0].pred_instances
    assert len(first) == len(single) == 10
    torch.testing.assert_close(first.scores, single.scores, atol=1e-5, rtol=1e-4)
    assert name == 'Mask score' or (first.scores.diff() <= 0).all()  # an order from before the masks
    if model.with_mask:
        assert first.masks.shape == (10, *IMAGE) and first.masks.dtype == torch.bool


def test_heads_of_a_hybrid_cascade():
    model = build('HTC').eval()
    assert model.with_semantic and not build('HTC without semantic').with_semantic
    first, second = model.roi_head.mask_head[:2]
    feats = torch.randn(4, 16, 7, 7)
    logits, passed_on = first(feats)
    torch.testing.assert_close(first(feats, return_feat=False), logits)
    torch.testing.assert_close(first(feats, return_logits=False), passed_on)
    assert not torch.allclose(second(feats, passed_on, return_feat=False), second(feats, return_feat=False))
    with pytest.raises(ValueError, match='with_conv_res=False'):
        first(feats, passed_on)
    alone = htc(semantic_head=SEMANTIC['semantic_head'])
    with pytest.raises(ValueError, match='belong together'):
        MODELS.build(ConfigDict(alone))


def test_semantic_head_takes_labels_at_its_own_scale():
    from mmdet.models.roi_heads.mask_heads import FusedSemanticHead

    widths = dict(in_channels=4, conv_out_channels=4, num_classes=3)
    head = FusedSemanticHead(2, 0, seg_scale_factor=1 / 4, num_convs=1, **widths)
    logits = torch.randn(1, 3, 2, 3)
    labels = torch.tensor([[0, 1, 2], [2, 255, 0]])
    expected = 0.2 * torch.nn.functional.cross_entropy(logits, labels[None], ignore_index=255, reduction='none').mean()
    coarse = labels.repeat_interleave(4, 0).repeat_interleave(4, 1)[None, None]
    torch.testing.assert_close(head.loss(logits, coarse), expected)
    with pytest.warns(DeprecationWarning, match='loss_weight=0.5'):
        assert FusedSemanticHead(1, 0, loss_weight=0.5).criterion.loss_weight == 0.5


def test_dynamic_thresholds_follow_the_proposals():
    model = build('Dynamic').train()
    head = model.roi_head
    assert head.bbox_assigner.pos_iou_thr == 0.5
    for step in range(2):
        model.loss(images(), [sample(3), sample(2, step)])
    assert head.bbox_assigner.pos_iou_thr == head.bbox_assigner.min_pos_iou >= 0.4
    assert head.bbox_assigner.pos_iou_thr != 0.5 and head.bbox_head.loss_bbox.beta <= 1.0
    assert head.iou_history == [] and head.beta_history == []


def test_dynamic_thresholds_survive_a_resume():
    """The state beside the weights continues as if nothing had happened."""
    run = build('Dynamic').train()
    run.loss(images(), [sample(3), sample(2)])
    other = build('Dynamic').train()
    other.load_state_dict(run.state_dict())
    other.roi_head.load_running_state(run.roi_head.running_state())
    for model in (run, other):
        torch.manual_seed(1)
        model.loss(images(), [sample(1), sample(2, 5)])
    assert other.roi_head.running_state() == run.roi_head.running_state()
    assert other.roi_head.bbox_assigner.pos_iou_thr != 0.5


def test_proposals_of_the_dataset_are_required_without_an_rpn():
    model = build('Faster')
    del model.rpn_head
    with pytest.raises(ValueError, match=r'x\.jpg has no proposals'):
        model.loss(images(), [sample(1), sample(1)])


def test_num_classes_of_the_rpn_must_be_one():
    from mmdet.registry import MODELS

    with pytest.raises(ValueError, match='num_classes must be 1, not 3'):
        MODELS.build(dict(type='RPNHead', in_channels=4, num_classes=3))


SHARED = ('QueryInst', 'Faster', 'Grid', 'Crowd refined', 'Trident', 'Mask score', 'Mask points')
SHARED += ('SABL Cascade', 'Cascade Mask', 'SCNet')
"""Trained by two processes."""


class Step(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, samples):
        return total(self.model.loss(inputs, samples))[1]


def work(rank, port, results):
    import torch.distributed as dist
    from mmengine.registry import init_default_scope

    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=2, timeout=timedelta(seconds=60))
    init_default_scope('mmdet')
    for name in SHARED:
        step = nn.parallel.DistributedDataParallel(Step(build(name).train()))
        counts = (0, 0) if rank else (3, 1)
        loss = step(images(seed=rank), [sample(n) for n in counts])
        loss.backward()
        norm = sum(p.grad.abs().sum() for p in step.parameters() if p.grad is not None)
        results.put((name, rank, float(loss), float(norm)))
    dist.destroy_process_group()


def test_a_rank_without_objects():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    results = torch.multiprocessing.get_context('spawn').SimpleQueue()
    torch.multiprocessing.start_processes(work, (port, results), nprocs=2, start_method='spawn')
    found = {}
    while not results.empty():
        name, rank, loss, norm = results.get()
        found[name, rank] = loss, norm
    assert len(found) == 2 * len(SHARED)
    for name in SHARED:
        assert torch.tensor([*found[name, 0], *found[name, 1]]).isfinite().all()
        assert found[name, 0][1] == pytest.approx(found[name, 1][1], rel=1e-4)


COMPILED = ('QueryInst', 'Faster', 'Crowd refined', 'Double', 'Grid', 'Mask score', 'Mask points', 'SABL')
COMPILED += ('HTC', 'SCNet')
"""Each kind of box, mask and semantic head is in one of them."""


def region_heads(model):
    return [module for name, module in networks(model) if name.startswith('roi_head.')]


def test_every_region_head_is_compiled_by_the_next_test():
    abstract = {'BBoxHead', 'ConvFCBBoxHead', 'Shared4Conv1FCBBoxHead'}  # bases, and another number of the same layers
    kinds = {type(head).__name__ for name in COMPILED for head in region_heads(build(name))}
    assert kinds == {*bbox_heads.__all__, *mask_heads.__all__} - abstract


@pytest.mark.parametrize('name', COMPILED)
def test_one_graph(name, one_graph):
    model = build(name).eval()
    feats, queries = torch.randn(3, 16, 7, 7), torch.randn(3, 16)
    maps = tuple(torch.randn(2, 16, 12 // s, 16 // s) for s in (1, 2))
    small, points = torch.randn(3, 16, 6, 6), torch.randn(3, 16 + 3, 5)
    inputs_of = dict(
        FusedSemanticHead=(maps,),
        DoubleConvFCBBoxHead=(feats, feats),
        DIIHead=(feats, queries[None]),
        DynamicMaskHead=(feats, queries),
        GridHead=(small,),
        CoarseMaskHead=(small,),
        MaskIoUHead=(small, torch.randn(3, 12, 12)),
        MaskPointHead=points.split((16, 3), 1),
    )
    inputs_of.update(SCNetSemanticHead=(maps,), GlobalContextHead=(maps,), FeatureRelayHead=(feats[:, :, 0, 0],))
    for head in region_heads(model):
        inputs = inputs_of.get(type(head).__name__, (feats,))
        if getattr(head, 'with_conv_res', False):
            inputs = feats, feats
        torch.testing.assert_close(one_graph(head, *inputs), head(*inputs))


def test_branches_of_a_trident_are_joined_by_image():
    from mmengine.structures import InstanceData

    head = build('Trident').roi_head
    rows = [[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 0, 40, 10]]
    parts = [
        InstanceData(bboxes=torch.tensor([row]), scores=torch.tensor([0.5 + i / 10]), labels=torch.tensor([0]))
        for i, row in enumerate(rows)
    ]
    found = head.merge_trident_bboxes(parts)
    assert found.bboxes.tolist() == [rows[2], rows[1]]
    torch.testing.assert_close(found.scores, torch.tensor([0.7, 0.6]))
    model = build('Trident').eval()
    with torch.no_grad():
        batch = model.predict(images(), [sample(1), sample(0)], rescale=False)
        for i in range(2):
            alone = model.predict(images()[i : i + 1], [sample(1)], rescale=False)[0].pred_instances
            torch.testing.assert_close(batch[i].pred_instances.bboxes, alone.bboxes, rtol=1e-3, atol=1e-2)


def test_a_trident_has_as_many_branches_everywhere():
    from two_stage_table import BRANCHES, rcnn, standard

    config = ConfigDict(
        type='TridentFasterRCNN',
        backbone=dict(
            type='TridentResNet',
            depth=50,
            out_indices=(2,),
            num_stages=3,
            strides=(1, 1, 1),
            dilations=(1, 1, 1),
            trident_dilations=(1, 2, 3),
            **BRANCHES,
        ),
        rpn_head=None,
        roi_head=standard('TridentRoIHead', num_branch=3, test_branch_idx=1),
        train_cfg=dict(rcnn=rcnn()),
        test_cfg=dict(rcnn=dict()),
    )
    with pytest.raises(ValueError, match='test_branch_idx must be the same'):
        MODELS.build(config)


def test_the_context_of_an_image_helps_its_regions():
    model = build('SCNet').eval()
    head, rois = model.roi_head, torch.tensor([[0.0, 0, 0, 9, 9], [1, 0, 0, 9, 9], [0, 5, 5, 9, 9]])
    context = torch.arange(2.0).view(2, 1, 1, 1) + 1
    fused = head._fuse_glbctx(torch.zeros(3, 1, 2, 2), context, rois)
    assert fused[:, 0, 0, 0].tolist() == [1, 2, 1] and fused.shape == (3, 1, 2, 2)
    logits = torch.tensor([[2.0, -1, 0], [0, 0, 0]])
    loss = head.glbctx_head.loss(logits, [torch.tensor([0, 0, 2]), torch.tensor([], dtype=torch.long)])
    sign = torch.tensor([[1.0, -1, 1], [-1, -1, -1]])
    torch.testing.assert_close(loss, torch.log1p(torch.exp(-sign * logits)).mean())


def test_a_context_head_of_plain_convolutions():
    from mmdet.models.roi_heads.mask_heads import GlobalContextHead, SCNetMaskHead

    head = GlobalContextHead(2, in_channels=4, conv_out_channels=6, num_classes=3)
    logits, feats = head((torch.zeros(2, 4, 8, 8), torch.randn(2, 4, 5, 5)))
    assert logits.shape == (2, 3) and feats.shape == (2, 6, 1, 1)
    assert {key for key in head.state_dict() if 'convs.1' in key} == {'convs.1.conv.weight', 'convs.1.conv.bias'}
    with pytest.raises(ValueError, match='conv_kernel_size 3'):
        SCNetMaskHead(conv_kernel_size=5)


@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
def test_weights_are_turned_instead_of_maps(layout, one_graph):
    fc = torch.nn.Linear(24, 5).double()
    x = torch.randn(3, 4, 2, 3, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    want = fc(x.flatten(1))
    grads = torch.autograd.grad(want.square().sum(), [x, *fc.parameters()])
    found = one_graph(lambda x: flat_linear(fc, x), x)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), [x, *fc.parameters()]), grads)
    if layout is torch.channels_last:
        fc.register_forward_hook(lambda module, args, out: out * 2)
        torch.testing.assert_close(flat_linear(fc, x), want * 2)

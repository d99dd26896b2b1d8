"""Networks of any precision; decoding and results in float32. Every head of the registry, in a detector."""

import copy

import pytest
import torch
from detectors_of_heads import HEADS, TABLE, build, detector, of_one_stage, predicted, total
from mmengine.structures import InstanceData

from mmdet.engine.acceleration import optimize_for_inference
from mmdet.models.core import as_float32
from mmdet.registry import MODELS, TASK_UTILS

pytestmark = pytest.mark.usefixtures('default_scope')


@pytest.mark.parametrize('how', ['autocast', 'bfloat16', 'half', 'double'])
@pytest.mark.parametrize('name', [*HEADS, *TABLE])
def test_results_are_float32_and_losses_finite(name, how):
    model, size, labelled = detector(name)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    if how != 'autocast':
        getattr(model, how)()
    with torch.autocast('cpu', torch.bfloat16, enabled=how == 'autocast'):
        with torch.no_grad():
            found = model.eval()(images, copy.deepcopy(labelled), mode='predict')
        losses, loss = total(model.train()(images, labelled, mode='loss'))
    for result in found:
        for key, value in predicted(result).items():
            assert not torch.is_floating_point(value) or value.dtype == torch.float32, key
    if 'pred_instances' in found[0]:
        assert len(found[0].pred_instances) and found[0].pred_instances.bboxes.isfinite().all()
    assert all(value.isfinite().all() for value in losses.values()), losses
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def in_bfloat16(value):
    """Levels, or tuples of several for each level."""
    return value.bfloat16() if isinstance(value, torch.Tensor) else [in_bfloat16(item) for item in value]


@pytest.mark.parametrize('name', HEADS)
@torch.no_grad()
def test_boxes_are_those_that_float32_makes_of_the_same_outputs(name):
    """Of a wide picture, where bfloat16 steps by four pixels and more."""
    head = of_one_stage(name).bbox_head.eval()
    outs = head(tuple(torch.randn(1, 8, 4 // k, 176 // k, generator=torch.Generator().manual_seed(0)) for k in (1, 2)))
    coarse = in_bfloat16([levels for levels in outs if levels is not None])
    metas = [dict(img_shape=(32, 1400), scale_factor=(1.0, 1.0), pad_shape=(32, 1408))]
    exact = head.predict_by_feat(*as_float32(coarse), batch_img_metas=metas)[0]
    with torch.autocast('cpu', torch.bfloat16):
        found = head.predict_by_feat(*coarse, batch_img_metas=metas)[0]
    assert len(exact) and exact.bboxes.max() > 512
    for key, value in exact.items():
        assert torch.equal(found.get(key), value), key


@pytest.mark.parametrize(
    ('coder', 'size'),
    [
        (dict(type='DeltaXYWHBBoxCoder', target_stds=(0.1, 0.1, 0.2, 0.2)), 4),
        (dict(type='TBLRBBoxCoder', normalizer=0.3), 4),
        (dict(type='AnchorPointBBoxCoder', scale=3), 4),
        (dict(type='DistancePointBBoxCoder'), 2),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_coders_decode_in_float32(coder, size):
    coder = TASK_UTILS.build(coder)
    priors = torch.tensor([[1200.0, 700, 1331, 790]])[:, :size]
    deltas = torch.tensor([[0.3, 1.7, 0.2, 0.9]]).bfloat16()
    found = coder.decode(priors, deltas)
    assert found.dtype == torch.float32 and torch.equal(found, coder.decode(priors, deltas.float()))


@torch.no_grad()
def test_regions_are_decoded_in_float32():
    head = build('Faster').roi_head.bbox_head.eval()
    rois = torch.tensor([[0.0, 1200, 700, 1331, 790], [0, 1290, 30, 1322.28, 60]])
    generator = torch.Generator().manual_seed(0)
    scores, deltas = (torch.randn(2, n, generator=generator).bfloat16() for n in (4, 12))
    metas = [dict(img_shape=(800, 1400), scale_factor=(1.0, 1.0))]
    cfg = build('Faster').roi_head.test_cfg
    with torch.autocast('cpu', torch.bfloat16):
        found = head.predict_by_feat([rois], [scores], [deltas], metas, rcnn_test_cfg=cfg)[0]
    exact = head.predict_by_feat([rois], [scores.float()], [deltas.float()], metas, rcnn_test_cfg=cfg)[0]
    assert len(exact) and torch.equal(found.bboxes, exact.bboxes) and torch.equal(found.scores, exact.scores)


@torch.no_grad()
def test_masks_are_pasted_in_float32():
    head = build('Mask').roi_head.mask_head.eval()
    logits = torch.randn(1, 3, 14, 14, generator=torch.Generator().manual_seed(0)).bfloat16()
    cfg, meta = build('Mask').roi_head.test_cfg, dict(ori_shape=(800, 1400), scale_factor=(1.0, 1.0))

    def pasted(logits):
        box = InstanceData(bboxes=torch.tensor([[1201.3, 30, 1322.28, 99]]), labels=torch.tensor([1]))
        return head.predict_by_feat([logits], [box], [meta], cfg)[0].masks

    with torch.autocast('cpu', torch.bfloat16):
        found = pasted(logits)
    assert found.any() and torch.equal(found, pasted(logits.float()))


def test_a_head_of_research_code_decodes_float32():
    model, size, labelled = detector('RetinaHead')
    seen = []

    def own(cls_scores, bbox_preds, batch_img_metas, rescale):
        seen.extend([cls_scores[0].dtype, bbox_preds[0].dtype, torch.is_autocast_enabled('cpu')])
        return [InstanceData(scores=torch.zeros(1, dtype=torch.bfloat16)) for _ in batch_img_metas]

    model.bbox_head.predict_by_feat = own
    with torch.autocast('cpu', torch.bfloat16):
        found = model.eval()(torch.randn(2, 3, *size), labelled, mode='predict')
    assert seen == [torch.float32, torch.float32, False]
    assert found[0].pred_instances.scores.dtype == torch.float32


@pytest.mark.parametrize('name', ['RetinaHead', 'Cascade Mask'])
def test_optimized_detectors_give_what_files_and_drawings_take(name):
    model, size, labelled = detector(name)
    optimize_for_inference(model.eval(), 'bf16')
    data = dict(inputs=[torch.randint(0, 256, (3, *size), dtype=torch.uint8)] * 2, data_samples=labelled)
    with torch.no_grad():
        found = model.test_step(data)[0].pred_instances
    assert found.bboxes.dtype == torch.float32 and len(found.bboxes.numpy()) == len(found.scores.numpy()) > 0


def test_pictures_are_normalised_in_float32():
    mean = [123.675, 116.28, 103.53]
    model = MODELS.build(dict(type='DetDataPreprocessor', mean=mean, std=[58.395, 57.12, 57.375]))
    picture = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    before = model(dict(inputs=[picture]))['inputs']
    for narrow in (torch.nn.Module.half, torch.nn.Module.bfloat16):
        narrow(model)
        assert model.mean.flatten().tolist() == pytest.approx(mean)
        assert torch.equal(model(dict(inputs=[picture]))['inputs'], before)
    assert model.double().mean.dtype == torch.float32

"""Detections of all images at once are those of one image after the other."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'dense_heads'))
sys.path.insert(0, str(Path(__file__).parents[1] / 'roi_heads'))
import head_table
import two_stage_table

from mmdet.models.core import Proposals, postprocess
from mmdet.models.core import TestCfg as HeadTestCfg
from mmdet.models.roi_heads.bbox_heads import bbox_head

pytestmark = pytest.mark.usefixtures('default_scope')


@pytest.fixture
def batched(monkeypatch):
    """Take the way of a GPU on the CPU too."""
    for module in (postprocess, bbox_head):
        monkeypatch.setattr(module, 'batches_images', lambda like: True)


def assert_same(found, expected):
    assert len(found) == len(expected)
    for result, want in zip(found, expected):
        assert set(result.keys()) == set(want.keys())
        torch.testing.assert_close(result.scores, want.scores, rtol=1e-5, atol=1e-6)
        assert result.labels.tolist() == want.labels.tolist()
        for name in {'bboxes', 'keypoints', 'masks'} & set(want.keys()):
            torch.testing.assert_close(result[name], want[name], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('name', head_table.HEADS)
def test_dense_heads(name, rescale, batched, monkeypatch):
    head = head_table.build_head(name, init=False).eval()
    data = head_table.samples('many', 'one', 'empty')
    data[1].set_metainfo(dict(scale_factor=(2.0, 0.5)))
    run = lambda: head.predict(head_table.features(3), data, rescale=rescale)
    found = run()
    with monkeypatch.context() as patch:
        patch.setattr(postprocess, 'batches_images', lambda like: False)
        expected = run()
    assert_same([result for result in found], expected)
    assert all(len(result) for result in expected)


@pytest.mark.parametrize('name', [name for name in two_stage_table.TABLE if name != 'Panoptic FPN'])  # gives no boxes
def test_two_stage_detectors(name, batched, monkeypatch):
    model = two_stage_table.build(name).eval()
    run = lambda: [
        sample.pred_instances
        for sample in model.predict(
            two_stage_table.images(3), [two_stage_table.sample(n, n) for n in (1, 0, 2)], rescale=True
        )
    ]
    with torch.no_grad():
        found = run()
        with monkeypatch.context() as patch:
            patch.setattr(postprocess, 'batches_images', lambda like: False)
            patch.setattr(bbox_head, 'batches_images', lambda like: False)
            expected = run()
    assert_same(found, expected)


@pytest.mark.parametrize('name', ['Faster', 'Cascade Mask', 'Dynamic'])
def test_losses_on_padded_proposals(name, batched, monkeypatch):
    def run():
        torch.manual_seed(0)
        model = two_stage_table.build(name).train()
        torch.manual_seed(1)
        counts = [(3, 0), (2, 1), (0, 2)]
        return two_stage_table.total(
            model.loss(two_stage_table.images(3), [two_stage_table.sample(*count) for count in counts])
        )[0]

    found = run()
    monkeypatch.setattr(postprocess, 'batches_images', lambda like: False)
    for key, value in run().items():
        assert found[key].isfinite().all()
        if 'rpn' in key:
            torch.testing.assert_close(found[key], value)


def test_nothing_found_and_other_suppression(batched):
    fields = dict(
        scores=torch.tensor([[0.1, 0.2], [0.9, 0.8]]),
        labels=torch.zeros(2, 2, dtype=torch.long),
        bboxes=torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]]).expand(2, 2, 4),
    )
    run = lambda **nms: postprocess.detections(
        fields, HeadTestCfg.read(dict(score_thr=0.5, nms=nms)), [{}, {}], False, True, 'labels'
    )
    assert [len(result) for result in run(type='nms', iou_threshold=0.5)] == [0, 1]
    assert [len(result) for result in run(type='nms', iou_thr=0.5, max_num=1, split_thr=1)] == [0, 1]
    assert [len(result) for result in run(type='soft_nms', method='gaussian', min_score=0.05)] == [0, 2]
    assert postprocess.greedy_options(dict(type='soft_nms', iou_threshold=0.5)) is None
    assert postprocess.greedy_options(dict(type='nms')) is None
    assert postprocess.greedy_options(None) is None


def test_proposals_are_a_list_for_who_wants_one():
    fields = dict(bboxes=torch.rand(2, 3, 4), scores=torch.rand(2, 3))
    proposals = Proposals.from_padded(fields, torch.tensor([2, 0]))
    assert proposals.valid.tolist() == [[True, True, False], [False] * 3]
    assert Proposals.of(proposals) is proposals
    assert [len(instances) for instances in proposals] == [2, 0]
    assert torch.equal(proposals[0].scores, fields['scores'][0, :2])
    proposals[0].bboxes = proposals[0].bboxes + 1  # what was changed counts
    assert torch.equal(Proposals.of(proposals).boxes[0, 0], fields['bboxes'][0, 0] + 1)

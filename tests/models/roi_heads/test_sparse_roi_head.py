"""Learned proposals: what the tables of two-stage detectors do not say of them."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from two_stage_table import IMAGE, MATCHED, build, images, sample, sparse, total

from mmdet.models.core import AssignResult, MatchedQueries, PaddedGT, set_matching
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.assigners import FocalLossCost, HungarianAssigner
from mmdet.models.task_modules.joints import as_matched
from mmdet.models.task_modules.samplers import PseudoSampler
from mmdet.registry import MODELS

pytestmark = pytest.mark.usefixtures('default_scope')

NAMES = ('Sparse', 'QueryInst')
COUNTS = (3, 0, 2)


def losses_of(model, counts=COUNTS):
    pictures = images(len(counts))
    return total(model.train().loss(pictures, [sample(n, seed) for seed, n in enumerate(counts)]))[0]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=lambda text, k=key: f'{k}: {text}')


def matched_to(rows, queries=4):
    """Queries of which ``rows[b]``, 1-based ground truths of each query of an image, say what they are matched to."""
    counts = [max(row) for row in rows]
    instances = [
        InstanceData(bboxes=torch.arange(4.0 * n).view(-1, 4) + 100 * b, labels=torch.arange(n) + 5 * b)
        for b, n in enumerate(counts)
    ]
    gt_inds = torch.tensor(rows)
    boxes = torch.arange(4.0 * gt_inds.numel()).view(*gt_inds.shape, 4)
    gt = PaddedGT.from_instances(instances)
    return MatchedQueries.of(boxes, gt_inds, gt_inds > 0, gt_inds == 0, gt, counts)


ROWS = [[0, 2, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_positives_are_taken_in_the_order_of_queries():
    samples = matched_to(ROWS)
    assert samples.positive_rows().tolist() == [1, 3, 10]
    labels, gt_inds, boxes = samples.positives.rows('gt_labels', 'gt_inds', 'boxes')
    assert labels.tolist() == [1, 0, 10] and gt_inds.tolist() == [1, 0, 0]
    assert boxes.equal(samples.boxes.flatten(0, 1)[[1, 3, 10]])
    assert samples.positives.rois[:, 0].tolist() == [0, 0, 2]


def test_matched_queries_are_lists_and_lists_are_matched_queries():
    samples = matched_to(ROWS)
    results = list(samples)
    assert [result.pos_inds.tolist() for result in results] == [[1, 3], [], [2]]
    assert [result.neg_inds.tolist() for result in results] == [[0, 2], [0, 1, 2, 3], [0, 1, 3]]
    assert [result.pos_assigned_gt_inds.tolist() for result in results] == [[1, 0], [], [0]]
    again = as_matched(results)
    assert again.positive_rows().tolist() == samples.positive_rows().tolist()
    for name in ('boxes', 'valid', 'pos', 'gt_inds', 'is_gt'):
        assert getattr(again, name).equal(getattr(samples, name)), name
    for name in ('gt_boxes', 'gt_labels'):
        assert getattr(again, name)[samples.pos].equal(getattr(samples, name)[samples.pos]), name


def test_no_positive_at_all():
    samples = matched_to([[0, 0], [0, 0]])
    assert samples.positive_rows().numel() == 0 and samples.positives.rois.shape == (0, 5)


@pytest.mark.parametrize('name', NAMES)
def test_losses_are_those_of_a_loop_over_stages_and_images(name):
    """As the papers write them, each stage and image by itself."""
    model = build(name).train()
    data = [sample(n, seed) for seed, n in enumerate(COUNTS)]
    with torch.no_grad():
        found = total(model.loss(images(3), data))[0]
        x = model.extract_feat(images(3))
        head, results = model.roi_head, model.rpn_head.predict(x, data)
        feats = torch.stack([result.features for result in results])
        metas, sizes = [one.metainfo for one in data], torch.tensor([IMAGE[1], IMAGE[0]] * 2).float()
        for stage, weight in enumerate((1, 0.5)):
            outs = head._run_stage(stage, x, results, feats, metas)
            results, feats = outs['results_list'], outs['object_feats']
            rows = [[] for _ in range(5)]
            for b, one in enumerate(data):
                gt, scores, boxes = one.gt_instances, outs['cls_score'][b], results[b].bboxes
                pred = InstanceData(scores=scores, bboxes=boxes)
                inds = head.bbox_assigner[stage].assign(pred, gt, metas[b]).gt_inds
                pos, labels = inds > 0, torch.full_like(inds, 3)
                labels[pos] = gt.labels[inds[pos] - 1]
                values = scores, labels, boxes[pos], gt.bboxes[inds[pos] - 1], pos
                for column, value in zip(rows, values):
                    column.append(value)
            scores, labels, boxes, truth, pos = map(torch.cat, rows)
            box_head, count = head.bbox_head[stage], sum(COUNTS)
            expected = dict(
                loss_cls=box_head.loss_cls(scores, labels, avg_factor=count) * weight,
                loss_bbox=box_head.loss_bbox(boxes / sizes, truth / sizes, avg_factor=count) * weight,
                loss_iou=box_head.loss_iou(boxes, truth, avg_factor=count) * weight,
                pos_acc=100 * (scores[pos].argmax(1) == labels[pos]).float().mean()[None],
            )
            for key, value in expected.items():
                torch.testing.assert_close(found[f's{stage}.{key}'], value)


@pytest.mark.parametrize('name', NAMES)
def test_all_stages_are_matched_at_once(name, monkeypatch):
    calls = []
    real = set_matching.solve_on_host
    monkeypatch.setattr(set_matching, 'solve_on_host', lambda *args: calls.append(args[1]) or real(*args))
    losses_of(build(name))
    assert calls == [[(3, 6, 3), (3, 6, 3)]]  # two stages of three images


class OwnCost(FocalLossCost):
    calls = 0

    def __call__(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        type(self).calls += 1
        assert img_meta['img_shape'] == IMAGE and pred_instances.bboxes.shape == (6, 4)
        return super().__call__(pred_instances, gt_instances, img_meta, **kwargs)


class OwnAssigner(HungarianAssigner):
    calls = 0

    def assign(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        type(self).calls += 1
        return super().assign(pred_instances, gt_instances, img_meta, **kwargs)


class BatchAssigner(HungarianAssigner):
    calls = 0

    def assign_groups(self, groups):
        type(self).calls += 1
        return super().assign_groups(groups)


class Foreign:
    """Knows one image, and none of our classes; several queries for a ground truth."""

    def assign(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        inds = torch.zeros(len(pred_instances), dtype=torch.long)
        if len(gt_instances):
            inds[:4] = torch.arange(4) % len(gt_instances) + 1
        labels = torch.where(inds > 0, gt_instances.labels[inds - 1] if len(gt_instances) else -1, -1)
        return AssignResult(len(gt_instances), inds, None, labels)


@pytest.mark.parametrize('name', NAMES)
def test_costs_and_assigners_of_others(name):
    expected = losses_of(build(name))
    model = build(name)
    for assigner in model.roi_head.bbox_assigner:
        assigner.match_costs[0].__class__ = OwnCost
    OwnCost.calls = 0
    assert_same(losses_of(model), expected)
    assert OwnCost.calls == 6
    for kind, calls in ((OwnAssigner, 6), (BatchAssigner, 2)):
        model, kind.calls = build(name), 0
        for assigner in model.roi_head.bbox_assigner:
            assigner.__class__ = kind
        assert_same(losses_of(model), expected)
        assert kind.calls == calls
    model = build(name)
    model.roi_head.bbox_assigner = [Foreign(), Foreign()]
    losses = losses_of(model)
    assert all(value.isfinite().all() for value in losses.values())
    assert not torch.allclose(losses['s0.loss_bbox'], expected['s0.loss_bbox'])


def test_a_sampler_of_others():
    """It may leave out what was matched."""

    class Own(PseudoSampler):
        def sample(self, assign_result, pred_instances, gt_instances, *args, **kwargs):
            result = super().sample(assign_result, pred_instances, gt_instances, *args, **kwargs)
            result.pos_inds = result.pos_inds[:1]
            return result

    model = build('QueryInst')
    for sampler in model.roi_head.bbox_sampler:
        sampler.__class__ = Own
    seen = []
    for head in model.roi_head.mask_head:
        head.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    losses_of(model)
    assert seen == [2, 2]  # one of each image with objects


@pytest.mark.parametrize('name', NAMES)
def test_an_own_loss_of_a_stage_with_lists(name):
    """Matches and draws image by image and hands lists on, as code for 3.x does."""
    expected, model = losses_of(build(name)), build(name)

    class Own(type(model.roi_head)):
        def bbox_loss(self, stage, x, results_list, object_feats, batch_img_metas, batch_gt_instances):
            boxes = torch.stack([results.bboxes for results in results_list])
            image = torch.arange(len(boxes)).repeat_interleave(boxes.shape[1])[:, None]
            rois = torch.cat([image, boxes.flatten(0, 1)], 1)
            outs = self._bbox_forward(stage, x, rois, object_feats, batch_img_metas)
            drawn = []
            for scores, bboxes, gt, meta in zip(
                outs['detached_cls_scores'], outs['detached_proposals'], batch_gt_instances, batch_img_metas
            ):
                pred = InstanceData(scores=scores, bboxes=bboxes, priors=bboxes)
                assigned = self.bbox_assigner[stage].assign(pred, gt, gt_instances_ignore=None, img_meta=meta)
                drawn.append(self.bbox_sampler[stage].sample(assigned, pred, gt))
            outs.update(
                self.bbox_head[stage].loss_and_target(
                    outs['cls_score'].view(-1, 3),
                    outs['decoded_bboxes'].view(-1, 4),
                    drawn,
                    self.train_cfg[stage],
                    imgs_whwh=torch.cat([results.imgs_whwh[None] for results in results_list]),
                )
            )
            outs['sampling_results'] = drawn
            outs['results_list'] = [
                InstanceData(bboxes=bboxes, imgs_whwh=results.imgs_whwh)
                for bboxes, results in zip(outs['detached_proposals'], results_list)
            ]
            return outs

    model.roi_head.__class__ = Own
    assert_same(losses_of(model), expected)


def test_targets_of_each_image():
    model, seen = build('Sparse'), []
    head = model.roi_head.bbox_head[0]

    class Own(type(head)):
        def get_targets(self, sampling_results, rcnn_train_cfg, concat=True):
            lists = super().get_targets(sampling_results, rcnn_train_cfg, concat=False)
            joined = super().get_targets(sampling_results, rcnn_train_cfg)
            seen.extend(torch.cat(part).equal(whole) for part, whole in zip(lists[:2], joined))
            return joined

    head.__class__ = Own
    losses_of(model)
    assert seen == [True, True]


@pytest.mark.parametrize('name', NAMES)
def test_more_objects_than_queries(name):
    losses = losses_of(build(name), (9, 1))
    assert all(value.isfinite().all() for value in losses.values())


def test_masks_are_those_of_the_boxes():
    """Each mask lies in its box, is that of its class, and its query has made it."""
    model, data = build('QueryInst').eval(), [sample(1), sample(0)]
    for one in data:
        one.set_metainfo(dict(scale_factor=(0.5, 0.5), ori_shape=(2 * IMAGE[0], 2 * IMAGE[1])))
    for head in model.roi_head.mask_head:
        torch.nn.init.constant_(head.conv_logits.weight, 0)
        head.conv_logits.bias.data[:] = torch.tensor([9.0, -9.0, -9.0])
    with torch.no_grad():
        batch = model.predict(images(), data, rescale=True)
    for one in batch:
        found = one.pred_instances
        assert 'attn_feats' not in found and found.masks.shape == (10, 2 * IMAGE[0], 2 * IMAGE[1])
        assert len({*found.labels.tolist()}) > 1
        for mask, box, label in zip(found.masks, found.bboxes, found.labels):
            inside = torch.zeros_like(mask)
            x1, y1, x2, y2 = box.round().int().clamp(min=0).tolist()
            inside[y1:y2, x1:x2] = True
            assert (mask & ~inside).sum() <= 2 * sum(mask.shape)  # up to half a pixel
            assert mask.any() == (label == 0 and inside.any())


def test_codes_of_masks():
    model = build('QueryInst').eval()
    model.roi_head.test_cfg.mask_format = 'rle'
    with torch.no_grad():
        found = model.predict(images(), [sample(1), sample(0)], rescale=True)[1].pred_instances
    assert len(found.masks) == len(found.bboxes) == 10 and found.masks[0]['size'] == list(IMAGE)


@pytest.mark.parametrize('name', NAMES)
def test_bare_outputs(name):
    model = build(name).eval()
    with torch.no_grad():
        stages = model(images(), [sample(1), sample(0)], mode='tensor')
    assert len(stages) == 2
    assert stages[1][0]['cls_score'].shape == (2, 6, 3) and stages[1][0]['decoded_bboxes'].shape == (12, 4)
    assert [part.get('mask_preds', torch.zeros(0)).shape[0] for part in stages[1][1:]] == [12] * (name == 'QueryInst')


def test_regions_without_a_size_are_zeros():
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=2, sampling_ratio=2), 3, [4, 8], finest_scale=8)
    feats = torch.rand(1, 3, 16, 16) + 1, torch.rand(1, 3, 8, 8) + 1
    good = torch.tensor([[0, 1.0, 1, 9, 9], [0, 1, 1, 40, 40]])
    bad = torch.tensor([[0, 9.0, 1, 1, 9], [0, torch.nan, 1, 9, 9]])
    rois = torch.cat([bad[:1], good[1:], bad[1:], good[:1]])
    found = extractor(feats, rois)
    assert found.equal(extractor._pool_everywhere(feats, rois, extractor.map_roi_levels(rois, 2)))
    assert found[[0, 2]].eq(0).all() and (found[[1, 3]] > 0).all()
    assert found[[3, 1]].equal(extractor(feats, good))
    assert extractor(feats, bad).eq(0).all()


def test_initial_proposals_are_whole_images():
    model = build('Sparse')
    model.roi_head.bbox_head.init_weights()
    (result,) = model.rpn_head.predict((), [sample(0)])
    assert result.bboxes.tolist() == [[0, 0, IMAGE[1], IMAGE[0]]] * 6
    assert result.imgs_whwh.tolist() == [[IMAGE[1], IMAGE[0]] * 2] * 6
    assert model.roi_head.bbox_head[0].fc_cls.bias.sigmoid().allclose(torch.tensor(0.01))
    with pytest.raises(NotImplementedError, match='loss_and_predict'):
        model.rpn_head.loss()


@pytest.mark.parametrize(
    ('changes', 'train', 'word'),
    [
        (dict(stage_loss_weights=[1]), [MATCHED] * 2, '1 stage_loss_weights for 2'),
        ({}, [dict(MATCHED, sampler=dict(type='RandomSampler', num=4, pos_fraction=0.5))] * 2, 'PseudoSampler'),
        (dict(bbox_head=dict(type='DIIHead', init_cfg=dict(type='Normal'))), None, 'init_cfg'),
    ],
)
def test_wrong_settings_are_told(changes, train, word):
    with pytest.raises(ValueError, match=word):
        MODELS.build(ConfigDict(dict(sparse(), **changes, train_cfg=train)))


def test_proposals_of_the_data_set_are_not_taken():
    model, data = build('Sparse').eval(), [sample(1), sample(0)]
    with torch.no_grad():
        expected = [one.pred_instances.scores for one in model.predict(images(), data)]
        for one in data:
            one.proposals = InstanceData(bboxes=torch.rand(3, 4))
        found = [one.pred_instances.scores for one in model.predict(images(), data)]
    assert all(map(torch.equal, found, expected))


def test_a_detector_without_proposals():
    with pytest.raises(ValueError, match='SparseRCNN learns its proposals'):
        MODELS.build(dict(type='SparseRCNN', backbone=dict(type='ResNet', depth=18)))

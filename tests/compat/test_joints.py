"""Methods that research code overrides are called, with the arguments they always had, and change no number."""

import inspect
import sys
from pathlib import Path

import pytest
import torch
from mmengine.structures import InstanceData

sys.path.insert(0, str(Path(__file__).parents[1] / 'models' / 'dense_heads'))
from head_table import ATSS, HEADS, MAX_IOU, build_head, features, for_head, samples, totals

from mmdet.models.core import DenseTargets, multi_apply
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.models.task_modules.samplers import PseudoSampler, SamplingResult
from mmdet.registry import MODELS, TASK_UTILS

pytestmark = pytest.mark.usefixtures('default_scope')


def change(head, calls, **methods):
    """Make ``head`` an instance of a subclass as research code writes it: each method counts, then calls super."""
    base = type(head)

    def counting(name, wrap):
        def method(self, *args, **kwargs):
            calls.append(name)
            return wrap(super(kind, self), name, *args, **kwargs)

        return method

    kind = type('Research' + base.__name__, (base,), {name: counting(name, wrap) for name, wrap in methods.items()})
    head.__class__ = kind
    return head


def passed_on(parent, name, *args, **kwargs):
    return getattr(parent, name)(*args, **kwargs)


def losses_of(head, name, kinds=('many', 'one', 'empty')):
    return totals(head.loss(features(len(kinds)), for_head(name, samples(*kinds))))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=lambda text, k=key: f'{k}: {text}')


OF_GUIDED_ANCHORS = (
    'ga_loc_targets',
    'ga_shape_targets',
    'get_sampled_approxs',
    'loss_loc_single',
    'loss_shape_single',
    '_ga_shape_target_single',
    '_get_guided_anchors_single',
)
JOINTS = (
    *OF_GUIDED_ANCHORS,
    'forward',
    'forward_single',
    'loss',
    'loss_by_feat',
    'get_anchors',
    'get_points',
    'get_targets',
    '_get_targets_single',
    'loss_by_feat_single',
    'get_cls_targets',
    'get_reg_targets',
    'loss_cls_by_feat_single',
    'loss_reg_by_feat_single',
    'get_atss_targets',
    'get_fcos_targets',
    'positive_loss_single',
    'add_cls_pos_inds',
    '_get_center3x3_region_index_targets',
    '_create_heatmaps_from_dist',
    'responsible_flags',
)
# Inherited methods that a head does not use, as in MMDetection.
UNUSED = {
    'VFNetHead': {'loss_by_feat_single', 'get_fcos_targets'},
    'VFNetHead points': {'loss_by_feat_single', 'get_anchors', 'get_atss_targets'},
    'DDODHead': {'get_targets', 'loss_by_feat_single'},
    'FreeAnchorRetinaHead': {'get_targets', '_get_targets_single', 'loss_by_feat_single'},
    'YOLOFHead': {'loss_by_feat_single'},
}
# How often a joint is called for three images and two levels, where that is not once.
CALLS = {'forward_single': 2, '_get_targets_single': 3, 'positive_loss_single': 3, 'responsible_flags': 3}
CALLS |= {'loss_cls_by_feat_single': 2, 'loss_reg_by_feat_single': 2}
CALLS |= {'_create_heatmaps_from_dist': 2}  # not for the image without an object
BY_LEVEL = {'GFLHead', 'RetinaHead GHM', 'RepPointsHead', 'FCOSHead GHM', 'ATSSHead GHM'}
BY_LEVEL |= {name for name in HEADS if name.startswith(('RTMDet', 'TOOD', 'YOLOV3', 'SABL'))}
# Heads that compute in forward what others do for each level, as in MMDetection.
ALL_IN_FORWARD = {'SSDHead', 'PISASSDHead', 'RetinaSepBNHead', 'RTMDetHead', 'RTMDetSepBNHead', 'TOODHead'}


def pairs():
    for name in HEADS:
        kind = MODELS.get(HEADS[name]['type'])
        for joint in JOINTS:
            unused = joint in UNUSED.get(name, ()) or (joint == 'forward_single' and kind.__name__ in ALL_IN_FORWARD)
            if hasattr(kind, joint) and not unused:
                yield name, joint


def number_of_calls(name, joint):
    kind = HEADS[name]['type']
    if joint in OF_GUIDED_ANCHORS:
        return {'_ga_shape_target_single': 3, '_get_guided_anchors_single': 6}.get(joint, 1)
    if name == 'TOODHead initial' and joint == '_get_targets_single':
        return 0  # matches by anchors and levels first
    if kind == 'YOLOFHead' and joint == 'forward_single':
        return 1  # level
    if kind == 'DDODHead' and joint == '_get_targets_single':
        return 6  # for both tasks
    if joint == 'loss_by_feat_single':
        return 3 if kind in {'SSDHead', 'PISASSDHead'} else 2 if name in BY_LEVEL else 1
    if kind == 'RepPointsHead':
        return {'_get_targets_single': 6, 'get_targets': 2}.get(joint, CALLS.get(joint, 1))
    return CALLS.get(joint, 1)


@pytest.mark.parametrize('name, joint', pairs())
def test_a_joint_that_calls_super_changes_no_loss(name, joint):
    if joint == 'loss_by_feat_single' and HEADS[name]['type'] in {'PAAHead', 'RetinaFaceHead'}:
        pytest.skip('computes all levels in loss_by_feat, as in MMDetection')
    if joint == 'get_points' and not hasattr(build_head(name), 'point_strides'):
        pytest.skip('has no locations of its own')
    calls = []
    found = losses_of(change(build_head(name, init=False), calls, **{joint: passed_on}), name)
    assert calls == [joint] * number_of_calls(name, joint)
    assert_same(found, losses_of(build_head(name, init=False), name))


def with_method(method):
    used = [name for name in HEADS if method not in UNUSED.get(name, ())]
    return [name for name in used if hasattr(MODELS.get(HEADS[name]['type']), method)]


@pytest.mark.parametrize('name', with_method('get_targets'))
def test_targets_of_a_batch_as_a_plain_tuple(name):
    calls = []
    head = change(
        build_head(name, init=False),
        calls,
        get_targets=lambda parent, method, *args, **kwargs: tuple(getattr(parent, method)(*args, **kwargs)),
    )
    found = losses_of(head, name)
    assert set(calls) == {'get_targets'}
    assert_same(found, losses_of(build_head(name, init=False), name))


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('name', [name for name in with_method('get_targets') if name in with_method('get_anchors')])
def test_sampling_results_of_a_batch(name, own):
    head = build_head(name, init=False)
    if 'return_sampling_results' not in inspect.signature(head.get_targets).parameters:
        pytest.skip('its targets take predictions and no such argument, as in MMDetection')
    if 'shape_preds' in inspect.signature(head.get_anchors).parameters:
        pytest.skip('its anchors take predictions')
    if own:
        head = change(head, [], _get_targets_single=passed_on)
    data = for_head(name, samples('many', 'one', 'empty'))
    metas, gts = [s.metainfo for s in data], [s.gt_instances for s in data]
    lists = head.get_anchors([(8, 8), (4, 4)], metas, device='cpu')
    *values, results = head.get_targets(*lists, gts, metas, return_sampling_results=True)
    assert [isinstance(result, SamplingResult) for result in results] == [True] * 3
    if HEADS[name]['type'] == 'PAAHead':
        labels = torch.stack(values[0])
    else:
        labels = torch.cat(values[1 if head.anchors_in_targets else 0], 1)
    for b, result in enumerate(results):
        assert labels[b][result.pos_inds].tolist() == result.pos_gt_labels.tolist()
        assert len(result.pos_gt_bboxes) == len(result.pos_inds)


def test_dense_targets_unpack_as_lists_by_level():
    head = build_head('ATSSHead')
    seen = {}

    def look(parent, method, *args, **kwargs):
        seen['targets'] = targets = getattr(parent, method)(*args, **kwargs)
        return targets

    losses_of(change(head, [], get_targets=look), 'ATSSHead', ('many', 'one'))
    assert isinstance(seen['targets'], DenseTargets)
    anchors, labels, label_weights, bbox_targets, bbox_weights, avg_factor = seen['targets']
    assert [level.shape for level in anchors] == [(2, 64, 4), (2, 16, 4)]
    assert [level.shape for level in labels] == [level.shape for level in label_weights] == [(2, 64), (2, 16)]
    assert (
        [level.shape for level in bbox_targets] == [level.shape for level in bbox_weights] == [(2, 64, 4), (2, 16, 4)]
    )
    assert avg_factor > 0


# Heads whose candidates have a way of their own, as in MMDetection.
OWN_CANDIDATES = {'YOLOXHead', 'YOLOV3Head'}


@pytest.mark.parametrize('name', HEADS)
def test_predictions_of_one_image(name):
    plain = build_head(name, init=False).eval()
    expected = plain.predict(features(2), samples('many', 'one'), rescale=True)
    for method in ('_predict_by_feat_single', '_bbox_post_process')[name in OWN_CANDIDATES :]:
        calls = []
        head = change(build_head(name, init=False).eval(), calls, **{method: passed_on})
        found = head.predict(features(2), samples('many', 'one'), rescale=True)
        assert calls == [method] * 2
        for result, want in zip(found, expected):
            torch.testing.assert_close(result.bboxes, want.bboxes)
            torch.testing.assert_close(result.scores, want.scores)
            assert result.labels.tolist() == want.labels.tolist()


def third_party(base, method, calls):
    """A task module of research code that overrides the method of one image."""

    def counted(self, *args, **kwargs):
        calls.append(method)
        return getattr(super(kind, self), method)(*args, **kwargs)

    kind = type('Research' + base.__name__, (base,), {method: counted})
    return kind


@pytest.mark.parametrize('name', ['RetinaHead', 'ATSSHead', 'ATSSHead space and scale', 'FSAFHead'])
def test_assigner_of_one_image(name):
    calls = []
    head = build_head(name, init=False)
    head.assigner.__class__ = third_party(type(head.assigner), 'assign', calls)
    if name == 'ATSSHead space and scale' or name == 'ATSSHead':  # its levels come as an argument
        head.assigner.__class__.assign = levels_first(type(head.assigner).__mro__[1], calls)
    found = losses_of(head, name)
    assert len(calls) == 3
    if name != 'FSAFHead':  # shadows have no place in a plain result
        assert_same(found, losses_of(build_head(name, init=False), name))


def levels_first(base, calls):
    def assign(self, pred_instances, num_level_priors, gt_instances, gt_instances_ignore=None):
        calls.append('assign')
        return base.assign(self, pred_instances, num_level_priors, gt_instances, gt_instances_ignore)

    return assign


def test_an_assigner_that_knows_nothing_of_batches():
    class Nearest(BaseAssigner):
        def assign(self, pred_instances, gt_instances, gt_instances_ignore=None, **kwargs):
            priors = pred_instances.priors
            inds = torch.zeros(len(priors), dtype=torch.long)
            labels = torch.full_like(inds, -1)
            for i, (box, label) in enumerate(zip(gt_instances.bboxes, gt_instances.labels)):
                center = (box[:2] + box[2:]) / 2
                nearest = ((priors[:, :2] + priors[:, 2:]) / 2 - center).norm(dim=1).argmin()
                inds[nearest], labels[nearest] = i + 1, label
            return AssignResult(len(gt_instances), inds, None, labels)

    head = build_head('RetinaHead', init=False)
    head.assigner = Nearest()
    losses = losses_of(head, 'RetinaHead', ('many', 'empty'))
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss_bbox'] > 0


def test_sampler_of_one_image():
    calls = []
    head = build_head('RPNHead', init=False)
    head.sampler.__class__ = third_party(type(head.sampler), 'sample', calls)
    found = losses_of(head, 'RPNHead')
    assert len(calls) == 3
    assert_same(found, losses_of(build_head('RPNHead', init=False), 'RPNHead'))


def test_an_own_pair_of_forward_and_loss():
    """A head by level, as 3.x code writes it: `loss_by_feat` with lists, `multi_apply` and `get_targets`."""

    @MODELS.register_module(force=True)
    class OwnRetinaHead(type(build_head('RetinaHead'))):
        def loss_by_feat(
            self, cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=None
        ):
            sizes = [score.shape[-2:] for score in cls_scores]
            anchors, flags = self.get_anchors(sizes, batch_img_metas, device=cls_scores[0].device)
            labels, label_weights, bbox_targets, bbox_weights, avg_factor = self.get_targets(
                anchors, flags, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=batch_gt_instances_ignore
            )
            levels = [torch.stack([image[i] for image in anchors]) for i in range(len(sizes))]
            loss_cls, loss_bbox = multi_apply(
                self.loss_by_feat_single,
                cls_scores,
                bbox_preds,
                levels,
                labels,
                label_weights,
                bbox_targets,
                bbox_weights,
                avg_factor=avg_factor,
            )
            return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)

    plain = build_head('RetinaHead', init=False)
    own = build_head('RetinaHead', init=False, type='OwnRetinaHead')
    assert_same(losses_of(own, 'RetinaHead'), losses_of(plain, 'RetinaHead'))


@pytest.mark.parametrize('config', [MAX_IOU, ATSS])
def test_results_of_assigners_and_samplers_for_research_code(config):
    assigner = TASK_UTILS.build(config)
    priors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [26, 20, 46, 40], [60, 60, 70, 70]])
    gt = InstanceData(bboxes=torch.tensor([[19.0, 20, 40, 40]]), labels=torch.tensor([7]))
    levels = ([4],) if config is ATSS else ()
    result = assigner.assign(InstanceData(priors=priors), *levels, gt)
    assert isinstance(result, AssignResult)
    assert result.num_gts == 1
    assert result.gt_inds.tolist()[1] == 1
    assert result.labels.tolist()[1] == 7
    drawn = PseudoSampler().sample(result, InstanceData(priors=priors), gt)
    assert isinstance(drawn, SamplingResult)
    assert 1 in drawn.pos_inds.tolist()
    assert drawn.pos_gt_bboxes[0].tolist() == [19, 20, 40, 40]
    assert drawn.num_pos + drawn.num_neg == drawn.avg_factor + drawn.num_neg == 4

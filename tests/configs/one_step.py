"""One training step and one prediction of the model of a config, on a small random batch."""

import copy

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs

# type of a part -> sides that pictures need; others take SIDE
SIDE = 64
SIDES = {'SSDVGG': 300, 'SSDNeck': 320, 'HourglassNet': 128, 'NASFPN': 128, 'NASFCOS_FPN': 128, 'FPG': 128, 'SAC': 128}
LIMITS = {'max_per_img': 20, 'nms_pre': 100, 'num': 32}  # of detections, candidates, and regions of a sampler
WEIGHTS = ('pretrained', 'checkpoint_path', 'teacher_ckpt')  # which would be fetched


def parts(node):
    """All dicts in a config."""
    if isinstance(node, dict):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from parts(item)


def small_model(model):
    """A copy of a model's config that fetches no weights, enlarges no picture and looks at few candidates."""
    model = copy.deepcopy(model)
    for part in parts(model):
        for key in WEIGHTS:
            part.pop(key, None)
        if isinstance(part.get('init_cfg'), dict) and part['init_cfg'].get('type') == 'Pretrained':
            part['init_cfg'] = None
        if (part.get('conv_cfg') or {}).get('type') == 'ConvAWS':  # norms must tame weights that are not pretrained
            part.update(norm_eval=False, frozen_stages=-1)
        if 'batch_augments' in part:
            part['batch_augments'] = None
        part.update({key: min(part[key], most) for key, most in LIMITS.items() if isinstance(part.get(key), int)})
    return ConfigDict(model)


def with_language_model(value, folder):
    """A model's config whose texts are read by the language model in a folder."""
    if not isinstance(value, dict):
        return value
    own = {'lang_model_name': folder} if 'lang_model_name' in value else {}
    own |= {'name': folder} if value.get('type') == 'BertModel' else {}
    return {**{key: with_language_model(part, folder) for key, part in value.items()}, **own}


def reads(model):
    """Whether a model's config has a language model."""
    return any(part.get('type') == 'BertModel' for part in parts(model))


def side_of(model):
    """Of the pictures: SIDE, or what a part of the model needs."""
    anchors = [part for part in parts(model) if 'SSDAnchorGenerator' in str(part.get('type'))]
    sides = [SIDES[part['type']] for part in parts(model) if part.get('type') in SIDES]
    return max([SIDE, *sides, *(part['input_size'] for part in anchors if 'input_size' in part)])


def build(model):
    """A detector with random weights, which has loaded its own state dict."""
    torch.manual_seed(0)
    detector = revert_sync_batchnorm(MODELS.build(small_model(model)))
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.load_state_dict(state, strict=True)
    return detector


def batch_for(detector, model):
    side = side_of(model)
    padded = any(part.get('pad_size_divisor', 1) >= 32 for part in parts(model))
    stuff = any(part.get('num_stuff_classes', 0) and 'num_queries' in part for part in parts(model))
    semantic = stuff or any('semantic_head' in part for part in parts(model))
    batch = demo_mm_inputs(
        2,
        [(3, side, side), (3, side * 3 // 4 if padded else side, side)],
        num_items=[3, 2],
        num_classes=detector.num_classes if stuff else max(detector.num_labels or 2, 2),
        with_mask=True,
        with_semantic=semantic,
    )
    names = ('cat', 'dog') if reads(model) else None
    rng = np.random.RandomState(1)
    for index, sample in enumerate(batch['data_samples']):
        low = rng.uniform(0, side / 2, size=(20, 2))
        boxes = np.concatenate([low, low + rng.uniform(4, side / 2, size=(20, 2))], 1)
        boxes = np.concatenate([sample.gt_instances.bboxes.numpy(), boxes]).astype(np.float32)
        sample.proposals = InstanceData(bboxes=torch.from_numpy(boxes), scores=torch.linspace(1, 0.5, len(boxes)))
        sample.set_metainfo(dict(img_id=index, scale_factor=(1.0, 1.0)))
        gt = sample.gt_instances
        gt.labels %= len(names) if names else detector.num_labels or 2
        if names:
            sample.set_metainfo(dict(text=names, custom_entities=True))
        gt.keypoints, gt.keypoints_visible = (
            gt.bboxes[:, None, :2] + torch.rand(len(gt), 5, 2) * 4,
            torch.ones(len(gt), 5),
        )
    return batch


def branches(batch):
    """The first picture with labels, the second without, for a teacher and a student."""
    for sample in batch['data_samples']:
        sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
    out = {}
    for key, (first, second) in batch.items():
        out[key] = dict(sup=[first, None], unsup_teacher=[None, second], unsup_student=[None, copy.deepcopy(second)])
    return out


def one_step(model, unused=()):
    """Problems of a model, as text; none if it learns and predicts.

    Parameters whose names begin with ``unused`` have no gradient.
    """
    detector = build(model)
    batch = batch_for(detector, model)
    detector.train()
    training_batch = copy.deepcopy(batch)
    if 'semi_train_cfg' in model:
        training_batch = branches(training_batch)
    data = detector.data_preprocessor(training_batch, True)
    loss, logged = detector.parse_losses(detector(**data, mode='loss'))
    loss.backward()
    problems = [
        f'{name} is {float(value.detach())}' for name, value in logged.items() if not torch.isfinite(value).all()
    ]
    trained = {name: p for name, p in detector.named_parameters() if p.requires_grad}
    without = [name for name, parameter in trained.items() if parameter.grad is None]
    if unused and not all(any(name.startswith(start) for name in without) for start in unused):
        problems.append(f'{unused} have gradients')
    without = [name for name in without if not name.startswith(tuple(unused))]
    if without:
        problems.append(f'{len(without)} of {len(trained)} parameters have no gradient: {", ".join(without[:4])}')
    problems += [
        f'the gradient of {name} is not finite'
        for name, parameter in trained.items()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    ][:3]
    detector.eval()
    for module in detector.modules():
        if isinstance(module, _BatchNorm) and module.eps > 0:
            module.train()  # statistics of the batch: those that one step leaves say nothing
    with torch.no_grad():
        results = detector.test_step(batch)
    for result in results:
        if 'pred_panoptic_seg' in result:
            if result.pred_panoptic_seg.sem_seg.shape[-2:] != result.ori_shape[:2]:
                problems.append('a segmentation is not as large as its picture')
            continue
        found = result.pred_instances
        if not (torch.isfinite(found.bboxes).all() and torch.isfinite(found.get('scores', torch.zeros(1))).all()):
            problems.append('a prediction is not finite')
    if len(results) != 2:
        problems.append(f'{len(results)} predictions of 2 pictures')
    return problems

"""Frozen results of a reference implementation, and the batch and weights that they belong to.

A case is the resolved ``model`` of a config with the names and shapes of its state dict, its losses and its
predictions. Weights, images and ground truths are functions of names and a seed: NumPy's legacy random numbers.
"""

import gzip
import json
import math
import zlib

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample


def load(path):
    with gzip.open(path, 'rt') as file:
        return json.load(file)


def with_tuples(value):
    """``{"tuple": [...]}`` stands for a tuple."""
    if isinstance(value, dict):
        if set(value) == {'tuple'}:
            return tuple(with_tuples(item) for item in value['tuple'])
        return {key: with_tuples(item) for key, item in value.items()}
    return [with_tuples(item) for item in value] if isinstance(value, list) else value


def build(case):
    return MODELS.build(ConfigDict(with_tuples(case['model'])))


def numbers(*key):
    return np.random.RandomState(zlib.crc32('/'.join(map(str, key)).encode()))


def predicts_scores(name):
    parts = name.split('.')
    if any(word in part for part in parts for word in ('convs', 'norm', 'bn')) or parts[-2] == 'conv':
        return False
    return any(word in part for part in parts[-4:-1] for word in ('cls', 'heat'))


@torch.no_grad()
def fill_weights(model, seed, scale):
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise, leaf = numbers(seed, name).standard_normal(tuple(tensor.shape)), name.rsplit('.', 1)[-1]
        if leaf == 'running_var':
            value = 1 + 0.1 * np.abs(noise)
        elif leaf == 'running_mean':
            value = 0.1 * noise
        elif tensor.dim() <= 1:
            value = 0.05 * noise + (leaf in ('weight', 'gamma', 'scale', 'g'))
            value = value - 4 * (leaf == 'bias' and predicts_scores(name))
        else:
            value = noise * math.sqrt(1 / np.prod(tensor.shape[1:])) * (scale or {}).get(name, 1.0)
        tensor.copy_(torch.from_numpy(np.asarray(value, np.float32)))


def make_batch(spec, seed):
    height, width = spec['shape']
    inputs, samples = [], []
    for i, ((h, w), count) in enumerate(zip(spec['img_shapes'], spec['num_gts'])):
        draw = numbers(seed, 'image', i, height, width)
        low = draw.standard_normal((3, max(h // 16, 1), max(w // 16, 1)))
        smooth = np.kron(low, np.ones((1, 16, 16)))[:, :h, :w]
        smooth = np.pad(smooth, ((0, 0), (0, h - smooth.shape[1]), (0, w - smooth.shape[2])), mode='edge')
        image = np.zeros((3, height, width), np.float32)
        image[:, :h, :w] = smooth + 0.2 * draw.standard_normal((3, h, w))
        inputs.append(torch.from_numpy(image))

        draw = numbers(seed, 'gt', i, height, width)
        cx, cy = draw.uniform(0.2, 0.8, count) * w, draw.uniform(0.2, 0.8, count) * h
        bw, bh = draw.uniform(0.15, 0.6, count) * w, draw.uniform(0.15, 0.6, count) * h
        sides = (cx - bw / 2).clip(0), (cy - bh / 2).clip(0), (cx + bw / 2).clip(max=w), (cy + bh / 2).clip(max=h)
        boxes, labels = np.stack(sides, 1).astype(np.float32), draw.randint(0, spec['num_classes'], count)
        meta = dict(img_shape=(h, w), ori_shape=(h, w), pad_shape=(height, width), batch_input_shape=(height, width))
        sample = DetDataSample(metainfo=dict(meta, img_id=i, scale_factor=(1.0, 1.0), flip=False))
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(boxes).reshape(-1, 4), labels=torch.from_numpy(labels.astype(np.int64))
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return torch.stack(inputs), samples


@torch.no_grad()
def losses_of(model, case):
    losses = model.train().loss(*make_batch(case['input'], case['seed']))
    return {
        name: float(sum(v.float().mean() for v in value) if isinstance(value, list) else value.float().mean())
        for name, value in losses.items()
    }


@torch.no_grad()
def predictions_of(model, case):
    results = model.eval().predict(*make_batch(case['input'], case['seed']), rescale=False)
    return [result.pred_instances for result in results]

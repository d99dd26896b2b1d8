"""How many operators a training step of a detector takes: forward, losses and backward, as a GPU is asked for them.

Two pictures of 128x128 on the CPU suffice, as the number hardly depends on sizes. Counted are aten's operators below
autograd. Those that only look at a tensor in another way, or reserve memory, cost the host time and the device none. As
on a GPU, attention is one product, deformable attention one operator each way, and activations are as the runner sets
them; the optimizer is not part of it.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet.config import load_config
from mmdet.engine.acceleration import accelerate_training
from mmdet.models.layers.transformer.attention import MultiheadAttention
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ('rtdetrv2/rtdetrv2_r50vd_4xb4-72e_coco', 'dfine/dfine_hgnetv2-l_8xb4-74e_coco')
SIDE = 128
VIEWS = {
    'view',
    '_unsafe_view',
    'expand',
    'transpose',
    't',
    'permute',
    'slice',
    'select',
    'unsqueeze',
    'squeeze',
    'split',
    'split_with_sizes',
    'unbind',
    'detach',
    'alias',
    'as_strided',
    '_reshape_alias',
    'lift_fresh',
    'unfold',
    'diagonal',
    'empty',
    'empty_like',
    'empty_strided',
    'new_empty',
    'new_empty_strided',
}


class Counted(TorchDispatchMode):
    """Counts operators by the file and line of this package that asks for them, in the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter = Counter()
        self.views: Counter = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        places = self._places()
        if not any(what == 'sampled_sums' for _, what in places):
            (self.views if name in VIEWS else self.kernels)[places[-1][0] if places else 'elsewhere'] += 1
        return function(*args, **(kwargs or {}))

    @staticmethod
    def _places() -> list[tuple[str, str]]:
        """File and function of the calls within this package, outermost first; of a gradient those of its operator."""
        node = torch._C._current_autograd_node()
        if node is not None:
            lines = [line.strip().split('\n')[0] for line in node.metadata.get('traceback_', ())]
            parts = [line.split('"')[1:] for line in lines if line.startswith('File "')]
            calls = [(file, rest.rpartition(' in ')[2]) for file, rest in parts]
        else:
            calls, frame = [], sys._getframe(2)
            while frame is not None:
                calls.insert(0, (frame.f_code.co_filename, frame.f_code.co_name))
                frame = frame.f_back  # type: ignore[assignment]
        package = str(ROOT / 'mmdet')
        return [(str(Path(file).relative_to(package)), what) for file, what in calls if file.startswith(package)]


def batch() -> tuple[torch.Tensor, list[DetDataSample]]:
    """Two pictures with two objects and one."""
    samples = []
    for boxes in ([[8.0, 10.0, 60.0, 70.0], [30.0, 20.0, 90.0, 50.0]], [[5.0, 5.0, 50.0, 50.0]]):
        shape = (SIDE, SIDE)
        meta = dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        labels = torch.arange(len(boxes))
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes), labels=labels)
        samples.append(sample)
    return torch.randn(2, 3, SIDE, SIDE), samples


def count(config: str, mixed: bool) -> Counted:
    """Of a step of a config with random weights, in bfloat16 by autocast if ``mixed``."""
    torch.manual_seed(0)
    cfg = load_config(ROOT / 'configs' / f'{config}.py')
    cfg.model.backbone.pop('init_cfg', None)
    cfg.model.data_preprocessor.pop('batch_augments', None)
    model = MODELS.build(cfg.model).train()
    accelerate_training(model, dict(winograd=False))
    MultiheadAttention._in_one_product = lambda self, query: True  # type: ignore[method-assign]
    pictures, samples = batch()

    def step() -> None:
        with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
            total, _ = model.parse_losses(model(pictures, samples, mode='loss'))
        total.backward()

    step()  # after which what follows from sizes is known
    model.zero_grad(set_to_none=True)
    counted = Counted()
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Anomaly Detection')
        with torch.autograd.set_detect_anomaly(True, check_nan=False), counted:
            step()
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--configs', nargs='+', default=CONFIGS, help='below configs/, without .py')
    parser.add_argument('--files', type=int, default=0, help='print so many files that ask for most')
    args = parser.parse_args()
    init_default_scope('mmdet')
    print('| config | type | that compute | views | all |\n| --- | --- | --- | --- | --- |')
    for config in args.configs:
        for mixed in (False, True):
            counted = count(config, mixed)
            numbers = counted.kernels.total(), counted.views.total()
            kind = 'bfloat16 by autocast' if mixed else 'float32'
            print(f'| {Path(config).name} | {kind} | {numbers[0]} | {numbers[1]} | {sum(numbers)} |')
            for file, number in (counted.kernels + counted.views).most_common(args.files):
                print(f'  {number:5d}, of which {counted.kernels[file]:4d} compute: {file}')


if __name__ == '__main__':
    main()

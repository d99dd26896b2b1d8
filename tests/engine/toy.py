"""A tiny detector-shaped world: model with dropout and batch norm, dataset with augmentation, metric."""

import hashlib
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    def __init__(self, losses=2, dropout=0.2, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(8, 2)
        self.losses = losses

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack([torch.as_tensor(i) for i in inputs]).float()
        scores = self.head(self.backbone(x))
        if mode == 'predict':
            return [dict(score=row, target=x_i.sum()) for row, x_i in zip(scores, x, strict=True)]
        noise = torch.rand(len(x), device=x.device)  # like the random sampling in heads
        error = (scores.sum(1) - x.sum(1) - 0.1 * noise).square()
        losses = {f'loss_{i}': error.mean() * (i + 1) / self.losses for i in range(self.losses)}
        return losses


@DATASETS.register_module(force=True)
class ToyDataset(torch.utils.data.Dataset):
    metainfo = dict(classes=('a', 'b'))

    def __init__(self, length=32, augment=True, log=None, nan_index=None):
        self.length, self.augment, self.log, self.nan_index = length, augment, log, nan_index

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        x = np.full(4, index / self.length, dtype=np.float32)
        if self.augment:
            x = x + np.random.rand(4).astype(np.float32) + random.random() + torch.rand(1).item()
        if self.log:
            with Path(self.log).open('a') as file:
                file.write(f'{index}\n')
        if index == self.nan_index:
            x[0] = np.nan
        return dict(inputs=torch.from_numpy(x), data_samples=index)

    def get_data_info(self, index):
        return dict(width=2 if index % 3 else 1, height=1.5)


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [abs(float(s['score'].sum() - s['target'])) for s in data_samples]

    def compute_metrics(self, results):
        return dict(mAP=float(1 / (1 + np.mean(results))))


@HOOKS.register_module(force=True)
class ToyWeightsHook(Hook):
    """Writes a digest of the parameters of each rank into the folder MMDET_TOY_OUT."""

    def after_train(self, runner):
        digest = hashlib.sha256()
        for parameter in runner.model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        folder = Path(os.environ['MMDET_TOY_OUT'])
        (folder / f'weights_{runner.rank}.txt').write_text(digest.hexdigest())


@HOOKS.register_module(force=True)
class ToyTraceHook(Hook):
    """Writes the process and the iterations of each rank into the folder MMDET_TOY_OUT."""

    def before_train(self, runner):
        folder = Path(os.environ['MMDET_TOY_OUT'])
        (folder / f'process_{runner.rank}.txt').write_text(str(os.getpid()))
        self.file = (folder / f'trace_{runner.rank}.txt').open('a')
        self.write(f'start {runner.world_size}')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.write(runner.iter + 1)

    def write(self, line):
        self.file.write(f'{line}\n')
        self.file.flush()


@HOOKS.register_module(force=True)
class ToyCrashHook(Hook):
    """Ends rank 1 in its second epoch, once."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        once = Path(os.environ['MMDET_TOY_OUT']) / 'crashed'
        if runner.rank == 1 and runner.epoch == 1 and batch_idx == 2 and not once.exists():
            once.touch()
            os._exit(9)


@HOOKS.register_module(force=True)
class ToySlowHook(Hook):
    """Iterations that take some time."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.02)

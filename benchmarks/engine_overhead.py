"""Time of the engine itself per training iteration, beside mmengine's own Runner in the same run.

A model of one parameter with 12 losses leaves nothing but the machinery. Histories of 90,000 iterations are put into
the message hub to see what a long run costs. Times are CPU times of one thread, and each figure is the least of several
repetitions: other processes can only make it larger.

    python benchmarks/engine_overhead.py
"""

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings

import numpy as np
import report
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir)))

LOSSES = 12


class Point(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        loss = (self.weight * 0.5).sum()
        return {f'loss_{i}': loss * i for i in range(LOSSES)}


class Numbers(torch.utils.data.Dataset):
    metainfo = {}

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return dict(inputs=0, data_samples=0)


def seconds_per_iteration(kind, history, iterations, work_dir):
    """The time of ``iterations`` iterations, divided by their number, without start and end."""
    marks = {}

    class ClockHook(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == warm_up - 1:
                if history:
                    fill(runner, history)
                marks['start'] = time.process_time()
            elif runner.iter == warm_up + iterations - 1:
                marks['end'] = time.process_time()

    warm_up = 60
    runner = kind(
        model=Point(),
        work_dir=work_dir,
        train_dataloader=dict(batch_size=1, num_workers=0, sampler=dict(type='InfiniteSampler'), dataset=Numbers()),
        train_cfg=dict(by_epoch=False, max_iters=warm_up + iterations + 1),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-9), clip_grad=dict(max_norm=35, norm_type=2)
        ),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=50), checkpoint=None),
        custom_hooks=[ClockHook()],
        randomness=dict(seed=0),
        log_level='ERROR',
        experiment_name=f'{kind.__name__}_{history}_{time.perf_counter_ns()}',
        default_scope='mmdet' if kind is not Runner else 'mmengine',
    )
    runner.train()
    return (marks['end'] - marks['start']) / iterations


def raw_seconds_per_iteration(iterations):
    """The same model, loss sum, clipping and step in a plain torch loop."""
    model = Point()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    for index in range(iterations + 60):
        if index == 60:
            start = time.process_time()
        loss, _ = model.parse_losses(model(None))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - start) / iterations


def fill(runner, length):
    """Histories as they are after ``length`` iterations."""
    for name, buffer in runner.message_hub.log_scalars.items():
        values = np.ones(min(length, buffer.max_length))
        runner.message_hub.log_scalars[name] = HistoryBuffer(values, np.ones(len(values)), buffer.max_length)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--iterations', type=int, default=500)
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--out', help='a JSON file for the results')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    from mmdet.engine.runner import DetRunner

    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repetitions):
            for kind in (Runner, DetRunner):
                for history in (0, 90_000):
                    value = seconds_per_iteration(kind, history, args.iterations, folder)
                    times.setdefault((kind.__name__, history), []).append(value)
            times.setdefault(('raw torch', 0), []).append(raw_seconds_per_iteration(args.iterations))
    print(f'time per iteration with {LOSSES} losses, least of {args.repetitions} (median):')
    for (name, history), values in times.items():
        print(
            f'  {name:10s} after {history:6d} iterations: {min(values) * 1e6:7.0f} us ({np.median(values) * 1e6:.0f})'
        )
    plain = min(times['raw torch', 0])
    beyond = {key: (min(values) - plain) * 1e6 for key, values in times.items()}
    print('beyond the plain torch loop:')
    for history in (0, 90_000):
        ours, stock = beyond['DetRunner', history], beyond['Runner', history]
        print(f'  after {history:6d} iterations: DetRunner {ours:.0f} us, mmengine {stock:.0f} us')
    rows = [
        report.row(
            f'engine beyond a plain loop, after {history} iterations',
            beyond['DetRunner', history],
            'us',
            beyond['Runner', history],
            'mmengine.Runner',
        )
        for history in (0, 90_000)
    ]
    report.save(args.out, rows, losses=LOSSES)


if __name__ == '__main__':
    main()

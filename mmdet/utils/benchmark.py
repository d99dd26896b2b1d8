"""How fast a detector, its data loader or its data set is."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger, print_log

from mmdet.errors import UserValueError
from mmdet.utils.processes import start_process_group


def custom_round(value: float, factor: float, precision: int = 2) -> float:
    """``value / factor``, rounded."""
    return round(value / factor, precision)


def gb_round(value: float) -> float:
    """Bytes as GiB."""
    return custom_round(value, 1 << 30)


def print_process_memory(p: Any, logger: MMLogger | str | None = None) -> None:
    """Log the memory of the machine, of a process and of its children.

    Args:
        p: A ``psutil.Process``.
    """
    import psutil

    machine, own = psutil.virtual_memory(), p.memory_full_info()
    text = f'memory of the machine: {gb_round(machine.used)} of {gb_round(machine.total)} GiB used, of the process: '
    text += f'{gb_round(own.uss)} GiB'
    children = [gb_round(child.memory_full_info().uss) for child in p.children(recursive=True)]
    print_log(f'{text}, of its {len(children)} children: {children} GiB', logger=logger or 'current')


class BaseBenchmark:
    """Measures something ``repeat_num`` times, and says what it is on average.

    Args:
        max_iter: Iterations of one measurement, warm-up included.
        log_interval: Iterations between two lines of the log.
        num_warmup: The first iterations, which do not count.
    """

    def __init__(self, max_iter: int, log_interval: int, num_warmup: int, logger: MMLogger | None = None) -> None:
        if max_iter <= num_warmup:
            raise UserValueError(f'max_iter ({max_iter}) must be larger than num_warmup ({num_warmup})')
        self.max_iter, self.log_interval, self.num_warmup, self.logger = max_iter, log_interval, num_warmup, logger

    def run(self, repeat_num: int = 1) -> dict:
        """What :meth:`average_multiple_runs` makes of ``repeat_num`` measurements."""
        if repeat_num < 1:
            raise UserValueError(f'repeat_num must be at least 1, not {repeat_num}')
        return self.average_multiple_runs([self.run_once() for _ in range(repeat_num)])

    def run_once(self) -> dict:
        """One measurement: ``dict(fps=items per second)``."""
        raise NotImplementedError

    def average_multiple_runs(self, results: list[dict]) -> dict:
        """``avg_fps``, the average of several measurements, and ``fps``, the list of them."""
        speeds = [result['fps'] for result in results]
        mean = sum(speeds) / len(speeds)
        self._log(f'average of {len(speeds)} measurements: {mean:.1f} items/s, {1000 / mean:.1f} ms per item')
        return dict(avg_fps=round(mean, 1), fps=[round(speed, 1) for speed in speeds])

    def _log(self, text: str) -> None:
        print_log(text, logger=self.logger or 'current')

    def _measure(self, durations: Iterable[float], size: int = 1) -> dict:
        """The speed from the seconds that each iteration, of ``size`` items, took."""
        count, seconds = 0, 0.0
        for i, duration in enumerate(islice(durations, self.max_iter), start=1):
            if i <= self.num_warmup:
                continue
            count, seconds = count + size, seconds + duration
            if i % self.log_interval == 0:
                self._log(f'[{i}/{self.max_iter}] {count / seconds:.1f} items/s')
        if not count:
            raise UserValueError(f'there is nothing after the warm-up of {self.num_warmup} iterations (num_warmup)')
        return dict(fps=count / seconds)


def _dataloader(cfg: Config, split: str) -> Any:
    from mmengine.runner import Runner

    if split not in ('train', 'val', 'test'):
        raise UserValueError(f"dataset_type must be 'train', 'val' or 'test', not {split!r}")
    loader = copy.deepcopy(cfg[f'{split}_dataloader'])
    loader.pop('multiprocessing_context', None)
    return Runner.build_dataloader(loader)


def _prepare(cfg: Config, distributed: bool) -> None:
    import torch
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if distributed:
        start_process_group(cfg.get('launcher', 'pytorch'), cfg.get('env_cfg', {}).get('dist_cfg'))
    torch.backends.cudnn.benchmark = bool(cfg.get('env_cfg', {}).get('cudnn_benchmark', False))


class InferenceBenchmark(BaseBenchmark):
    """Pictures per second of a detector on the test set, one by one, loading left out.

    Args:
        checkpoint: Weights, which may be None: the speed hardly depends on them.
        is_fuse_conv_bn: Whether batch norms are folded into the convolutions before them.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | None,
        distributed: bool,
        is_fuse_conv_bn: bool,
        max_iter: int = 2000,
        log_interval: int = 50,
        num_warmup: int = 5,
        logger: MMLogger | None = None,
    ) -> None:
        super().__init__(max_iter, log_interval, num_warmup, logger)
        self.cfg = copy.deepcopy(cfg)
        self.distributed = distributed
        _prepare(self.cfg, distributed)
        self.cfg.test_dataloader.batch_size = 1
        self.model = self._init_model(checkpoint, is_fuse_conv_bn)
        self.data_loader = _dataloader(self.cfg, 'test')

    def _init_model(self, checkpoint: str | None, is_fuse_conv_bn: bool) -> Any:
        from mmengine.device import get_device
        from mmengine.model.utils import revert_sync_batchnorm
        from mmengine.runner import load_checkpoint

        from mmdet.registry import MODELS
        from mmdet.utils.checkpoint import register_loaders

        model = revert_sync_batchnorm(MODELS.build(self.cfg.model))
        if checkpoint is not None:
            register_loaders()  # files that can run no code
            load_checkpoint(model, checkpoint, map_location='cpu')
        if is_fuse_conv_bn:
            from mmcv.cnn import fuse_conv_bn

            model = fuse_conv_bn(model)
        return model.to(get_device()).eval()

    def run_once(self) -> dict:
        import torch

        def seconds() -> Iterator[float]:
            for batch in self.data_loader:
                start = time.perf_counter()
                self.model.test_step(batch)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                yield time.perf_counter() - start

        with torch.no_grad():
            return self._measure(seconds())


class DataLoaderBenchmark(BaseBenchmark):
    """Pictures per second that come out of a data loader.

    Args:
        dataset_type: Whose: 'train', 'val' or 'test'.
    """

    def __init__(
        self,
        cfg: Config,
        distributed: bool,
        dataset_type: str,
        max_iter: int = 2000,
        log_interval: int = 50,
        num_warmup: int = 5,
        logger: MMLogger | None = None,
    ) -> None:
        super().__init__(max_iter, log_interval, num_warmup, logger)
        self.cfg = copy.deepcopy(cfg)
        self.distributed = distributed
        _prepare(self.cfg, distributed)
        self.data_loader = _dataloader(self.cfg, dataset_type)

    def run_once(self) -> dict:
        def seconds() -> Iterator[float]:
            start = time.perf_counter()
            for _ in self.data_loader:
                yield time.perf_counter() - start
                start = time.perf_counter()

        return self._measure(seconds(), self.data_loader.batch_size or 1)


class DatasetBenchmark(BaseBenchmark):
    """Samples per second of each transform of a data set's pipeline, in this process.

    Args:
        dataset_type: Whose: 'train', 'val' or 'test'.
    """

    def __init__(
        self,
        cfg: Config,
        dataset_type: str,
        max_iter: int = 2000,
        log_interval: int = 50,
        num_warmup: int = 5,
        logger: MMLogger | None = None,
    ) -> None:
        super().__init__(max_iter, log_interval, num_warmup, logger)
        self.cfg = copy.deepcopy(cfg)
        _prepare(self.cfg, distributed=False)
        self.dataset = _dataloader(self.cfg, dataset_type).dataset

    def run_once(self) -> dict:
        """``fps`` of the whole pipeline, and ``transforms``: the name and ``fps`` of each part."""
        import numpy as np

        parts = self.dataset.pipeline.transforms
        spent = []  # (iterations, transforms)

        def seconds() -> Iterator[float]:
            for index in np.random.permutation(len(self.dataset)):
                sample, row = self.dataset.get_data_info(int(index)), []
                for part in parts:
                    start = time.perf_counter()
                    sample = part(sample)
                    row.append(time.perf_counter() - start)
                    if sample is None:
                        break
                else:  # a sample that is left out for want of objects does not count
                    spent.append(row)
                    yield sum(row)

        result = self._measure(seconds())
        means = np.mean(spent[self.num_warmup :], axis=0)
        speeds = {type(part).__name__: 1 / max(mean, 1e-9) for part, mean in zip(parts, means, strict=True)}
        self._log('items/s of each transform: ' + ', '.join(f'{name} {fps:.0f}' for name, fps in speeds.items()))
        return dict(result, transforms=speeds)

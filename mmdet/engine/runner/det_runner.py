"""mmengine's Runner on today's PyTorch: CPU process groups, safe and exact checkpoints, errors that say what to do."""

from __future__ import annotations

import contextlib
import copy
import errno
import inspect
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.dist import get_rank, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import FUNCTIONS
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from mmdet.config import batch_size_message, repair_mmengine
from mmdet.datasets.walk import build, full_init, mixing_without_wrapper, require_pictures, require_same_order
from mmdet.engine import console
from mmdet.engine.acceleration import accelerate_training, lay_out
from mmdet.engine.compilation import compile_networks, compile_options
from mmdet.engine.device_defaults import has_bounded_sizes, keep_kernels, with_fused_optimizer
from mmdet.engine.finite import (
    NonFiniteStateError,
    check_gradients,
    few,
    infinite_buffers,
    last_good,
    nonfinite_names,
    state_of,
    wrappers_of,
)
from mmdet.engine.hooks.runtime_info_hook import RuntimeInfoHook
from mmdet.engine.rescue import save_last_state, where_it_is
from mmdet.engine.runner.changed_settings import OptimizerSettings, changed_schedules
from mmdet.engine.runner.progress import Schedules, find_place, require_samples
from mmdet.engine.runner.resume_state import ResumeState, bare_model, to_cpu
from mmdet.engine.runner.run_claim import RunClaim, unused_second
from mmdet.engine.weights import load_weights
from mmdet.errors import UserFileError, UserRuntimeError, UserTypeError, UserValueError
from mmdet.evaluation.evaluator import build_evaluator
from mmdet.registry import DATA_SAMPLERS, HOOKS, LOOPS, MODELS, RUNNERS, VISUALIZERS
from mmdet.utils import checkpoint as checkpoints
from mmdet.utils.log_packages import require_packages
from mmdet.utils.processes import LostRankError, end_with_parent, is_lost_rank, start_process_group
from mmdet.utils.randomness import ResumableBatches, SeededFetch
from mmdet.utils.resumable import lacks
from mmdet.version import __version__

_PARAMETERS = list(inspect.signature(Runner.__init__).parameters)[1:]


@RUNNERS.register_module()
class DetRunner(Runner):
    """A Runner whose interrupted runs continue bit for bit and whose checkpoints cannot run code.

    Takes what :class:`mmengine.runner.Runner` takes; ``default_scope`` is 'mmdet'. With ``randomness=dict(seed=None)``
    it draws a seed, or takes that of the checkpoint to resume. With ``resume=True`` and no ``load_from`` it resumes
    the newest readable checkpoint of ``work_dir``. How a model trains is decided in :mod:`mmdet.engine.acceleration`,
    what a run on CUDA takes where the config says nothing in :mod:`mmdet.engine.device_defaults`.
    """

    _has_loaded: bool
    phase = ''
    """What it does at the moment; empty while it waits for data."""
    rescue: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        given.setdefault('default_scope', 'mmdet')
        given['randomness'] = dict(given.get('randomness') or {'seed': None})
        cfg = given.get('cfg')
        if isinstance(cfg, Config):
            object.__setattr__(cfg, '_format_python_code', False)
        elif isinstance(cfg, dict):
            given['cfg'] = Config(cfg, format_python_code=False)
        if 'activation_checkpointing' in (given.get('cfg') or {}):
            raise UserValueError(
                "activation_checkpointing loses the gradients of the first module with today's PyTorch: "
                'set with_cp=True in the backbone or neck instead'
            )
        _require_writable(given['work_dir'])
        repair_mmengine()
        checkpoints.register_loaders()
        self.resume_state = ResumeState(given['work_dir'], given.get('resume', False), given.get('load_from'))
        self.run_claim = RunClaim(given['work_dir'])
        self._called: dict[str, list] = {}
        self._infinite: set[str] = set()
        super().__init__(**given)

    @property
    def iter(self) -> int:
        """Iterations that are done. Hooks ask for it all the time, so the way to it is short."""
        done = getattr(self._train_loop, '_iter', None)
        return super().iter if done is None else done

    # ----------------------------------------------------------------------------------------------------------------
    # Environment
    def setup_env(self, env_cfg: dict) -> None:
        if self.distributed:
            start_process_group(self.launcher, env_cfg.get('dist_cfg'))
            end_with_parent(at_once=False)  # the tools have told Linux, a parent of another kind may use threads
        if 'cudnn_benchmark' not in env_cfg and has_bounded_sizes(self.cfg):
            env_cfg = {**env_cfg, 'cudnn_benchmark': True}  # randomness=dict(deterministic=True) takes it back
        super().setup_env(env_cfg)
        self._timestamp: str = unused_second(self.timestamp)

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        if seed is None:
            self.resume_state.decide()
            seed = self.resume_state.meta().get('seed')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
        if self.distributed and not is_model_wrapper(model):
            model_wrapper_cfg = copy.deepcopy(model_wrapper_cfg or {})
            if model_wrapper_cfg.setdefault('type', 'MMDistributedDataParallel') == 'MMDistributedDataParallel':
                model_wrapper_cfg.setdefault('find_unused_parameters', self.cfg.get('find_unused_parameters', False))
                self._set_buffer_policy(model_wrapper_cfg)
                if not torch.cuda.is_available():
                    model_wrapper_cfg['device_ids'] = None
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def _set_buffer_policy(wrapper_cfg: dict) -> None:
        """Buffers are equal at the start and then each rank's own; the argument for it changed its name."""
        if 'forward_sync_buffers' in inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters:
            wrapper_cfg.setdefault('forward_sync_buffers', wrapper_cfg.pop('broadcast_buffers', False))
        else:
            wrapper_cfg.setdefault('broadcast_buffers', False)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        wrapper = super().build_optim_wrapper(with_fused_optimizer(optim_wrapper, self.model))
        for one in wrappers_of(wrapper):
            if isinstance(getattr(one, 'optimizer', None), torch.optim.Optimizer):
                keep_kernels(one.optimizer)
        paramwise = optim_wrapper.get('paramwise_cfg') if isinstance(optim_wrapper, Mapping) else None
        names = [name for name, _ in self.model.named_parameters()]
        for pattern in (paramwise or {}).get('custom_keys') or ():
            if not any(pattern in name for name in names):
                self.logger.warning(
                    f'optim_wrapper.paramwise_cfg.custom_keys: {pattern!r} is in the name of no parameter'
                )
        return wrapper

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: dict | None = None) -> None:
        """Say how the batch size stands to the learning rate, and scale the latter if ``enable`` is set.

        The batch size is that of a step of the optimizer: of all processes, and of all batches that are accumulated.
        """
        settings = auto_scale_lr or {}
        base, enabled = settings.get('base_batch_size'), settings.get('enable', False)
        loader = self._train_dataloader
        size = loader.get('batch_size') if isinstance(loader, dict) else getattr(loader, 'batch_size', None)
        if enabled and not (base and size):
            raise UserValueError(
                f'auto_scale_lr needs base_batch_size and the batch_size of train_dataloader, not {base} and {size}'
            )
        if enabled and any(callable(getattr(each, 'step', None)) for each in _flat(self.param_schedulers)):
            raise UserRuntimeError('auto_scale_lr comes too late: the schedulers have read the learning rate already')
        for one in wrappers_of(optim_wrapper):
            groups = getattr(getattr(one, 'optimizer', None), 'param_groups', None)
            if not (base and size and groups):
                continue
            accumulated = getattr(one, '_accumulative_counts', 1)
            rate = groups[0]['lr']
            self.logger.info(batch_size_message(size, self.world_size, base, rate, enabled, accumulated))
            for group in groups if enabled else ():
                group['lr'] *= size * self.world_size * accumulated / base

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call a method of every hook that has something to do in it; an error keeps its own traceback."""
        if self._called.get('hooks') != self._hooks:
            self._called = {'hooks': list(self._hooks)}
        methods = self._called.get(fn_name)
        if methods is None:
            methods = self._called[fn_name] = [getattr(h, fn_name) for h in self._hooks if _does_something(h, fn_name)]
        for method in methods:
            method(self, **kwargs)

    # ----------------------------------------------------------------------------------------------------------------
    # Building: through mmdet's registries, whose errors name the nearest right names
    def build_model(self, model: Any) -> torch.nn.Module:
        model = MODELS.build(model) if isinstance(model, dict) else super().build_model(model)
        return lay_out(model, self.cfg)

    def build_visualizer(self, visualizer: Any = None) -> Any:
        if isinstance(visualizer, dict):
            visualizer = copy.deepcopy(visualizer)
            visualizer.setdefault('name', self._experiment_name)
            visualizer.setdefault('save_dir', self._log_dir)
            require_packages(visualizer.get('vis_backends'))
            return VISUALIZERS.build(visualizer)
        return super().build_visualizer(visualizer)

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        return build_evaluator(evaluator)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        if isinstance(hook, dict):
            hook = copy.deepcopy(hook)
            own = hook.pop('priority', None)
            hook, priority = HOOKS.build(hook), own if priority is None else priority
        super().register_hook(hook, priority)

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        logger = super().build_logger(*args, **kwargs)
        mode = self.cfg.get('console', 'full')
        if mode not in console.MODES:
            raise UserValueError(f"console must be 'quiet' or 'full', not {mode!r}")
        if mode == 'quiet':
            console.make_quiet(logger)
        return logger

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        defaults = dict(
            nonfinite_loss=dict(type='NonFiniteLossHook'),
            signals=dict(type='SignalHook'),
            progress=dict(type='ProgressHook'),
        )
        if console.is_quiet(self.logger):
            defaults['console'] = dict(type='ConsoleHook')
        if self.distributed:
            defaults['watchdog'] = dict(type='WatchdogHook')
        given = dict(hooks or {})
        own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        given = {name: hook for name, hook in {**defaults, **given}.items() if hook is not None or name in own}
        super().register_default_hooks(given)  # which only knows how to leave out its own

    def build_train_loop(self, loop: Any) -> Any:
        if isinstance(loop, dict):
            loop = copy.deepcopy(loop)
            by_epoch = loop.pop('by_epoch', True)  # a type, inherited from a base file for example, goes before it
            loop.setdefault('type', 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
            return LOOPS.build(loop, default_args=dict(runner=self, dataloader=self._train_dataloader))
        return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        built = self._build_evaluation_loop(loop, 'ValLoop', self._val_dataloader, self._val_evaluator)
        if isinstance(self._train_loop, BaseLoop):  # training begins
            require_same_order(self.train_dataloader.dataset, built.dataloader.dataset)
        return built

    def build_test_loop(self, loop: Any) -> Any:
        return self._build_evaluation_loop(loop, 'TestLoop', self._test_dataloader, self._test_evaluator)

    def _build_evaluation_loop(self, loop: Any, default: str, dataloader: Any, evaluator: Any) -> Any:
        if not isinstance(loop, dict):
            return loop
        loop = copy.deepcopy(loop)
        loop.setdefault('type', default)
        built = LOOPS.build(loop, default_args=dict(runner=self, dataloader=dataloader, evaluator=evaluator))
        if isinstance(getattr(built, 'dataloader', None), DataLoader):
            require_samples(built.dataloader, f'{default[:-4].lower()}_dataloader')
        return built

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """A DataLoader whose samples draw from a stream of their own and whose batches can be skipped.

        Args:
            dataloader: The ``train_dataloader`` part of a config, or a DataLoader, which is returned as it is.
            seed: The run's seed, plus the rank when ``diff_rank_seed``.
        """
        if isinstance(dataloader, DataLoader):
            return dataloader
        cfg = copy.deepcopy(dataloader)
        dataset = cfg.pop('dataset')
        if isinstance(dataset, (dict, list, tuple)):
            dataset = build(dataset)
            waiting = mixing_without_wrapper(dataset)
            if waiting:
                raise UserValueError('; '.join(waiting))
            full_init(dataset)
            require_pictures(dataset)
        seed = 0 if seed is None else seed - (get_rank() if diff_rank_seed else 0)
        limit = cfg.pop('num_batch_per_epoch', None)
        if limit is not None:
            from mmengine.runner.runner import _SlicedDataset

            dataset = _SlicedDataset(dataset, limit * cfg['batch_size'] * mmengine.dist.get_world_size())
        sampler = cfg.pop('sampler', None)
        if isinstance(sampler, dict):
            sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        batch_sampler = cfg.pop('batch_sampler', None)
        if isinstance(batch_sampler, dict):
            size = cfg.pop('batch_size')
            batch_sampler = DATA_SAMPLERS.build(batch_sampler, default_args=dict(sampler=sampler, batch_size=size))
        if cfg.get('num_workers', 0) == 0:
            cfg.pop('persistent_workers', None)  # torch refuses it without workers
            cfg.pop('prefetch_factor', None)
        cfg.pop('disable_subprocess_warning', None)
        cfg.setdefault('pin_memory', torch.cuda.is_available())
        loader = DataLoader(
            dataset=dataset,
            sampler=sampler if batch_sampler is None else None,
            batch_sampler=batch_sampler,
            collate_fn=_function(cfg.pop('collate_fn', dict(type='pseudo_collate')), 'collate_fn'),
            worker_init_fn=_function(cfg.pop('worker_init_fn', dict(type=_start_worker)), 'worker_init_fn'),
            **cfg,
        )
        if loader.batch_sampler is not None:
            # torch's fetcher prefers __getitems__; set on the object, its class and attributes stay what they are
            dataset.__getitems__ = SeededFetch(dataset, seed)
            # DataLoader forbids setting batch_sampler since batch_size and sampler are derived from it: they stay right
            object.__setattr__(loader, 'batch_sampler', ResumableBatches(loader.batch_sampler, get_rank()))
        return loader

    def train(self) -> torch.nn.Module:
        accelerate_training(self.model, self.cfg)
        self._infinite = infinite_buffers(self.model)
        with self.run_claim:
            super().dump_config()
            try:
                model = super().train()
            except RuntimeError as error:
                if self.world_size == 1 or not is_lost_rank(error):
                    raise
                raise LostRankError(
                    f'{where_it_is(self)} when it lost another rank, whose own message says more. '
                    f'{save_last_state(self)} ({error})'
                ) from error
        check_gradients(self, 'finish')
        self._require_finite(state_of(self), 'The run has ended, but this is not finite')
        return model

    def val(self) -> dict:
        super().dump_config()
        return super().val()

    def test(self) -> dict:
        super().dump_config()
        return super().test()

    def dump_config(self) -> None:
        """Does nothing: the config is written when a run begins, since only then it is known whose the folder is."""

    def _require_finite(self, state: Iterable[tuple[str, torch.Tensor]], what: str) -> None:
        names = [name for name in nonfinite_names(state) if name not in self._infinite]
        if names:
            last = self.message_hub.runtime_info.get('iter', self.iter) + 1
            raise NonFiniteStateError(f'Iteration {last} on rank {self.rank}: {what}: {few(names)}. {last_good(self)}')

    def _maybe_compile(self, target: str) -> None:
        """The key ``compile`` compiles the networks, not ``target``, which is the whole step with the optimizer."""
        options = compile_options(self.cfg.get('compile'))
        if options is not None:
            self.logger.info(f'compiled at their first use: {", ".join(compile_networks(self.model, options))}')

    # ----------------------------------------------------------------------------------------------------------------
    # Checkpoints
    def load_or_resume(self) -> None:
        if self._has_loaded:
            return
        self.resume_state.decide()
        for note in self.resume_state.notes:
            self.logger.warning(note)
        if self._resume and self.resume_state.path:
            self.resume(self.resume_state.path)
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from)
        if self.run_claim.held:
            for note in self.run_claim.begin(self._resume):
                self.logger.warning(note)
        self.resume_state.release()
        self._has_loaded = self._has_loaded or self._load_from is not None

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: list = [(r'^module\.', '')],
    ) -> dict:
        """Load weights; says in one line what was loaded, left out and missing, and fails under half."""
        checkpoint = self.resume_state.take(filename)
        if checkpoint is None:
            checkpoint = checkpoints.read_checkpoint(filename, map_location)
        checkpoints.unpack_histories(checkpoint.get('message_hub'))
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        report = load_weights(bare_model(self), checkpoint, strict=strict, revise_keys=revise_keys, source=filename)
        self.logger.info(str(report))
        self._has_loaded = True
        self.resume_state.read_from(checkpoint)
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'cpu',
    ) -> None:
        """Continue a run: weights, optimizer, schedulers, logs and the place in the data."""
        schedules = Schedules(self)
        settings = OptimizerSettings(self.optim_wrapper, schedules.names)
        checkpoint = self.resume_state.peek(filename)
        missing = [key for key in lacks(checkpoint) if key != 'optimizer']
        if missing:
            raise UserValueError(f'{filename} cannot be resumed: it has no {", ".join(missing)}')
        if 'optimizer' not in checkpoint:
            self.logger.warning(f'{filename} holds no optimizer: it starts anew, as at the beginning of a run.')
        misfit = settings.misfit(checkpoint['optimizer']) if 'optimizer' in checkpoint and resume_optimizer else ''
        if misfit:
            self.logger.warning(f'{filename} holds the state of {misfit}: the optimizer starts anew.')
            resume_optimizer = False
        changes = changed_schedules(schedules, checkpoint.get('param_schedulers'))
        self.run_claim.note_resumed(filename, checkpoint['meta'])
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)
        anew = bool(changes or misfit or 'optimizer' not in checkpoint)
        changes += settings.restore()
        if changes:
            self.logger.warning(f'Resumed with {", ".join(changes)}: the config rules.')
        if hasattr(self.train_loop, 'go_to'):
            self._find_place(schedules if resume_param_scheduler else None, anew)
        self.resume_state.restore(self)

    def _find_place(self, schedules: Schedules | None, anew: bool) -> None:
        """Where the run goes on in its data, by samples if it goes through it in another way than before.

        Schedules are played to this place if it is another one, or if they go on ``anew``.
        """
        state, hub = self.resume_state, self.message_hub
        meta, pace = state.read_meta, self.train_loop.pace()
        place, note, moved = find_place(meta, hub.runtime_info, pace)
        self.train_loop.go_to(place)
        if hub.runtime_info.get('last_validation') == meta['iter']:
            hub.update_info('last_validation', place.iteration)
        if (moved or anew) and schedules is not None and not schedules.play_to(place, pace):
            note += ' Schedules that follow the results of validations stay where they were.'
        accumulation = (meta.get('progress') or {}).get('accumulation', pace.accumulation)
        if state.gradients and (moved or pace.accumulation != accumulation):
            state.gradients = {}
            note += ' The gradients of an unfinished optimizer step are left out.'
        if note:
            self.logger.warning(note.strip())

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Write a checkpoint of plain values: it appears whole under its name, or not at all.

        Raises:
            NonFiniteStateError: what would be written holds NaN or infinite numbers; nothing is.
            FolderInUseError: another run has taken the folder.
        """
        check_gradients(self)
        self._require_finite(state_of(self), 'not saved, since not finite')
        self.run_claim.require()
        meta = dict(meta or {})
        meta.setdefault('epoch', self.epoch + 1 if by_epoch else self.epoch)
        meta.setdefault('iter', self.iter if by_epoch else self.iter + 1)
        meta.update(
            cfg=self.cfg.pretty_text,
            seed=self.seed,
            experiment_name=self.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            mmengine_version=mmengine.__version__,
            mmdet_version=__version__,
        )
        if self.run_claim.run_id:
            meta['run_id'] = self.run_claim.run_id
        if hasattr(self.train_loop, 'progress'):
            meta['progress'] = self.train_loop.progress(meta['epoch'], meta['iter'])
        metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None)
        if metainfo is not None:
            meta['dataset_meta'] = metainfo
        for hook in self.hooks:
            if isinstance(hook, RuntimeInfoHook):
                hook.flush(self, rates=False)
        checkpoint = dict(
            meta=meta,
            state_dict=to_cpu(bare_model(self).state_dict()),
            message_hub=checkpoints.pack_histories(self.message_hub.state_dict()),
        )
        if save_optimizer:
            checkpoint['optimizer'] = to_cpu(self.optim_wrapper.state_dict())
        if save_param_scheduler and self.param_schedulers is not None:
            schedulers = self.param_schedulers
            groups = schedulers if isinstance(schedulers, dict) else {'': schedulers}
            states = {name: [_scheduler_state(scheduler) for scheduler in group] for name, group in groups.items()}
            checkpoint['param_schedulers'] = states if isinstance(schedulers, dict) else states['']
        self.resume_state.write_to(checkpoint, self, with_gradients=save_optimizer)
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        target = str(out_dir).rstrip('/') + '/' + filename
        label = {key: meta[key] for key in ('run_id', 'epoch', 'iter', 'interim') if key in meta}
        checkpoints.save_checkpoint(checkpoint, target, file_client_args or backend_args, label)

    def gather_buffers(self) -> None:
        """Bring what differs between ranks, such as batch norm statistics, to rank 0 for the next save.

        A collective call: every rank makes it. Without it a checkpoint holds the buffers of rank 0 only.

        Raises:
            NonFiniteStateError: on every rank, if the state of any holds NaN or infinite numbers.
        """
        check_gradients(self)
        self.resume_state.gather_buffers(self)
        for rank, owners in enumerate(self.resume_state.gathered):
            named = ((f'{name} of rank {rank}', value) for owner in owners for name, value in owner.items())
            self._require_finite(named, 'not saved, since not finite')
        if self.world_size > 1:
            self._require_finite(state_of(self), 'not saved, since not finite')


def _flat(schedulers: Any) -> list:
    """Those of several optimizers, one after the other."""
    if isinstance(schedulers, dict) and 'type' not in schedulers:
        schedulers = list(schedulers.values())
    return [each for one in schedulers for each in _flat(one)] if isinstance(schedulers, list) else [schedulers]


def _does_something(hook: Hook, fn_name: str) -> bool:
    """Whether a hook overrides a method, or the general one that mmengine's base class calls in it."""
    own = getattr(type(hook), fn_name, None)
    if own is None or fn_name in hook.__dict__:
        return hasattr(hook, fn_name)
    general = re.sub('_(train|val|test)', '', f'_{fn_name}')
    base = getattr(Hook, fn_name, None)
    return own is not base or getattr(type(hook), general, None) is not getattr(Hook, general, None)


def _scheduler_state(scheduler: Any) -> dict:
    """Without functions, such as the annealing of OneCycle: a scheduler makes its own when it is built."""
    return {key: value for key, value in scheduler.state_dict().items() if not callable(value)}


def _function(cfg: Any, name: str) -> Callable:
    """A function, given directly or as ``dict(type=..., **arguments)``."""
    if callable(cfg):
        return cfg
    if not isinstance(cfg, dict):
        raise UserTypeError(f'{name} must be a function or a dict with its type, not {cfg!r}')
    cfg = dict(cfg)
    kind = cfg.pop('type')
    return partial(FUNCTIONS.get(kind) if isinstance(kind, str) else kind, **cfg)


def _require_writable(folder: str) -> None:
    """Make the folder of a run; what cannot be written at all is known before the first iteration."""
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if shutil.disk_usage(folder).free == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise UserFileError(f'work_dir {folder!r} cannot be written: {error.strerror}') from None


def _start_worker(worker_id: int) -> None:
    """One thread each, and deaf to what tells the whole job to stop: the main process saves, then ends its workers."""
    torch.set_num_threads(1)
    end_with_parent(signal.SIGKILL, grace=None)
    if hasattr(os, 'setpgid'):  # a SIGTERM to the process group, as `timeout` and shells send it, must not reach them
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Slurm sends it to every process of a job step

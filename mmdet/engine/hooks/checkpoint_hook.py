"""When checkpoints are written and removed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook

from mmdet.engine.hooks.utils import require_number
from mmdet.registry import HOOKS
from mmdet.utils.checkpoint import label_of
from mmdet.utils.run_folder import point_to, remove_partial_files


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's CheckpointHook that never has fewer whole checkpoints than it should.

    An old or formerly best file goes only after the new one is on the disk, and only if it lies directly in the folder
    of this run, has a name that this hook gives and carries the id of the run: no path that a checkpoint mentions is
    ever deleted. ``last_checkpoint`` holds a name relative to its folder, so a moved work dir still resumes. With
    gradient accumulation, a save by iterations waits for the next optimizer step.
    """

    best_ckpt_path: str | None
    _surplus: list[str]  # names of files that the next save replaces
    _refused: list[str]  # and of those that could not be removed
    _written: set[str]
    _claim: Any
    _waiting: bool

    @property
    def _is_local(self) -> bool:
        return '://' not in str(self.out_dir) and not self.backend_args and not self.file_client_args

    def before_train(self, runner: Any) -> None:
        self._surplus, self._refused, self._written, self._waiting = [], [], set(), False
        if self.by_epoch and self.interval > 0 and getattr(runner.train_loop, 'by_epoch', True) is False:
            runner.logger.warning(
                'CheckpointHook counts epochs, but this run is one of iterations: it saves at the end only. '
                'by_epoch=False saves every `interval` iterations.'
            )
        info = runner.message_hub.runtime_info
        kept = [step for step in info.get('keep_ckpt_ids') or [] if type(step) is int]
        left = kept[-self.max_keep_ckpts :] if self.max_keep_ckpts > 0 else kept
        if 'keep_ckpt_ids' in info:
            # the parent would delete surplus files of the resumed run now, before a new one is there
            runner.message_hub.update_info('keep_ckpt_ids', left)
        super().before_train(runner)
        self._claim = getattr(runner, 'run_claim', None)
        if self._claim is not None and self._is_local and Path(self.out_dir) != Path(runner.work_dir):
            Path(self.out_dir).mkdir(parents=True, exist_ok=True)
            self._claim.take(self.out_dir)
            if is_main_process() and self._claim.run_id:
                remove_partial_files(self.out_dir, self._claim.run_id)
        self.last_ckpt = self._here(info.get('last_ckpt'))  # whether a better state makes a save of its own goes by it
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._here(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._here(path)
        if is_main_process():
            stopped = info.get('surplus_ckpts')  # by the end of the process, after the save that replaced them
            self._remove(runner, stopped if isinstance(stopped, list) else [])
            self._surplus = [self.filename_tmpl.format(step) for step in kept[: len(kept) - len(left)]]
            self._surplus += self._interim_files()
        runner.message_hub.update_info('surplus_ckpts', [])

    def _here(self, path: Any) -> str | None:
        """The file that a checkpoint calls the best, if it is one of this run in this folder."""
        name = os.path.basename(path) if isinstance(path, str) else ''
        return self.file_backend.join_path(self.out_dir, name) if self._may_remove(name) else None

    def _interim_files(self) -> list[str]:
        """Saves besides the regular ones that the end of a process has left."""
        if not self._is_local or self._claim is None or not os.path.isdir(self.out_dir):
            return []
        names = [name for name in os.listdir(self.out_dir) if re.fullmatch(r'iter_\d+\.pth', name)]
        return [n for n in names if self._may_remove(n) and label_of(Path(self.out_dir) / n).get('interim') is True]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self.by_epoch:
            return
        due = self.every_n_train_iters(runner, self.interval, self.save_begin)
        last = self.save_last and self.is_last_train_iter(runner)
        self._waiting = self._waiting or due
        if last or (self._waiting and at_optimizer_step(runner)):
            self._waiting = False
            runner.logger.info(f'Saving checkpoint at {runner.iter + 1} iterations')
            self._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        name, kept = self.filename_tmpl.format(step), [step]
        if self.max_keep_ckpts > 0:
            kept = [s for s in self.keep_ckpt_ids if s != step] + [step]
            dropped, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            self._surplus += [self.filename_tmpl.format(old) for old in dropped]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        staying = {self.filename_tmpl.format(s) for s in kept}
        waiting, self._surplus, self._refused = [*self._surplus, *self._refused], [], []
        surplus = [old for old in dict.fromkeys(waiting) if old not in staying]
        runner.message_hub.update_info('surplus_ckpts', surplus)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        gather = getattr(runner, 'gather_buffers', None)
        if gather is not None:
            gather()
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._written.add(name)
        if is_main_process():
            self._point_to(runner, name)
            self._remove(runner, surplus)
        runner.message_hub.update_info('surplus_ckpts', [])

    def save_interim(self, runner: Any, done: int | None = None, alone: bool = False) -> str:
        """Save besides the regular moments; the next save of either kind makes the file surplus.

        Args:
            done: How many iterations are over, where it is not one more than the loop has counted.
            alone: Rank 0 makes this call; otherwise every rank does, and it holds what differs between them.

        Returns:
            The name of the file, which is what ``last_checkpoint`` says.
        """
        done = runner.iter + 1 if done is None else done
        name = f'iter_{done}.pth'
        meta: dict[str, Any] = dict(epoch=runner.epoch, iter=done)
        surplus, regular = [old for old in self._surplus if old != name], name == os.path.basename(self.last_ckpt or '')
        if not regular:
            meta['interim'] = True
        if hasattr(runner, 'gather_buffers') and not alone:
            runner.gather_buffers()
        runner.save_checkpoint(self.out_dir, name, meta=meta, by_epoch=False, backend_args=self.backend_args)
        self._written.add(name)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        if is_main_process():
            self._point_to(runner, name)
            self._remove(runner, [old for old in surplus if old.startswith('iter_')])
        self._surplus = surplus + ([] if regular else [name])
        return name

    def _point_to(self, runner: Any, name: str) -> None:
        same_folder = Path(str(self.out_dir)) == Path(runner.work_dir)
        run_id = self._claim.run_id if self._claim is not None else None
        point_to(runner.work_dir, name if same_folder else str(self.last_ckpt), run_id)

    def _may_remove(self, name: str) -> bool:
        """Whether a name is one that this hook gives, and its file one of this run, directly in its folder."""
        regular = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
        if not re.fullmatch(rf'(best_.+_)?{regular}|iter_\d+\.pth', name) or name != os.path.basename(name):
            return False
        if self._is_local and self._claim is not None:
            return self._claim.owns(self.out_dir, name)
        return name in self._written

    def _remove(self, runner: Any, names: list) -> None:
        for name in names:
            if isinstance(name, str) and self._may_remove(name):
                path = self.file_backend.join_path(self.out_dir, name)
                try:
                    self.file_backend.remove(path)
                except OSError as error:
                    self._refused.append(name)
                    runner.logger.warning(f'{path} is surplus and could not be removed, which is tried again: {error}')

    def after_train(self, runner: Any) -> None:
        super().after_train(runner)
        if is_main_process():
            refused, self._refused = self._refused, []
            self._remove(runner, refused)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best or not hasattr(self, 'file_backend'):  # validation without training
            return
        unit, count = ('epoch', runner.epoch) if self.by_epoch else ('iter', runner.iter)
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        if 'auto' in self.key_indicators:
            key = overall_metric(metrics)
            known = any(part.lower() in key.lower() for part in (*self.greater_keys, *self.less_keys))
            self._init_rule(self.rules if known or self.rules[0] else ['greater'], [key])
        single, hub, outdated = len(self.key_indicators) == 1, runner.message_hub, []
        improved = False
        for key, rule in zip(self.key_indicators, self.rules, strict=True):
            require_number(key, metrics, 'save_best')
            rule = rule or ('greater' if self.is_better_than[key](1, 0) else 'less')
            suffix = '' if single else f'_{key}'
            score = metrics[key]
            best = hub.runtime_info.get(f'best_score{suffix}', self.init_value_map[rule])
            if score is None or says_no_truth(key, score) or not self.is_better_than[key](score, best):
                continue
            improved = True
            name = f'best_{key}_{self.filename_tmpl.format(count)}'.replace('/', '_')
            path = self.file_backend.join_path(self.out_dir, name)
            before = self.best_ckpt_path if single else self.best_ckpt_path_dict[key]
            if before and before != path:
                outdated.append(os.path.basename(before))
            if single:
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[key] = path
            hub.update_info(f'best_score{suffix}', score)
            hub.update_info(f'best_ckpt{suffix}', path)
            runner.save_checkpoint(
                self.out_dir,
                filename=name,
                file_client_args=self.file_client_args,
                save_optimizer=False,
                save_param_scheduler=False,
                meta=meta,
                by_epoch=False,
                backend_args=self.backend_args,
            )
            runner.logger.info(f'The best checkpoint with {score:0.4f} {key} at {count} {unit} is saved to {name}.')
            self._written.add(name)
        if improved and self.last_ckpt is not None:
            self._surplus += outdated
            # again, so that a resumed run knows the best score and file
            self._save_checkpoint_with_step(runner, count, meta)
        elif is_main_process():
            self._remove(runner, outdated)


OVERALL = re.compile(r'(^|[/_])(mAP|AP|PQ|mIoU)$')
RATES = re.compile(r'AP|AR|PQ|precision|recall')


def says_no_truth(name: str, score: float) -> bool:
    """Whether a score is the -1 that precision and recall have where there is no ground truth: neither good nor bad."""
    return score == -1 and RATES.search(name) is not None


def overall_metric(names: Iterable[str]) -> str:
    """What ``save_best='auto'`` watches: the first overall mean of the metrics, however they are ordered.

    Where there is none it is the first number, and the precision of one class only where there is nothing else.
    """
    names = list(names)
    means = [name for name in names if OVERALL.search(name) and not name.endswith('_precision')]
    return (means or [name for name in names if not name.endswith('_precision')] or names)[0]


def at_optimizer_step(runner: Any) -> bool:
    """Whether no gradients of an unfinished accumulation are lost by saving now."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if hasattr(wrapper, 'optim_wrappers') else [wrapper]
    return all(getattr(w, '_inner_count', 0) % getattr(w, '_accumulative_counts', 1) == 0 for w in wrappers)

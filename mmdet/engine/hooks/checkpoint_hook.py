"""When checkpoints are written and removed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook

from mmdet.errors import UserKeyError
from mmdet.registry import HOOKS
from mmdet.utils.checkpoint import atomic_file, remove_partial_files


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's CheckpointHook that never has fewer whole checkpoints than it should.

    An old or formerly best file goes only after the new one is on the disk; ``last_checkpoint`` holds a name relative
    to its folder, so a moved work dir still resumes. With gradient accumulation, a save by iterations waits for the
    next optimizer step.
    """

    best_ckpt_path: str | None

    def before_train(self, runner: Any) -> None:
        hub = runner.message_hub
        if self.max_keep_ckpts > 0 and 'keep_ckpt_ids' in hub.runtime_info:
            # the parent would delete surplus files of the resumed run now, before a new one is there
            kept = list(hub.get_info('keep_ckpt_ids'))
            hub.update_info('keep_ckpt_ids', kept[-self.max_keep_ckpts :])
        super().before_train(runner)
        if is_main_process() and '://' not in str(self.out_dir):
            remove_partial_files(self.out_dir)
        best = getattr(self, 'best_ckpt_path', None)
        if best:
            self.best_ckpt_path = self._here(best)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._here(path) if path else path

    def _here(self, path: str) -> str:
        """A path of before the folder was moved."""
        return path if self.file_backend.isfile(path) else self.file_backend.join_path(self.out_dir, Path(path).name)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        if self.by_epoch:
            return
        due = self.every_n_train_iters(runner, self.interval, self.save_begin)
        last = self.save_last and self.is_last_train_iter(runner)
        self._waiting = getattr(self, '_waiting', False) or due
        if last or (self._waiting and at_optimizer_step(runner)):
            self._waiting = False
            runner.logger.info(f'Saving checkpoint at {runner.iter + 1} iterations')
            self._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        surplus = []
        if self.max_keep_ckpts > 0:
            kept = [s for s in self.keep_ckpt_ids if s != step] + [step]
            surplus, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        name = self.filename_tmpl.format(step)
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
        if not is_main_process():
            return
        self._point_to(runner, name)
        for old in surplus:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))

    def _point_to(self, runner: Any, name: str) -> None:
        same_folder = Path(str(self.out_dir)) == Path(runner.work_dir)
        with atomic_file(Path(runner.work_dir) / 'last_checkpoint') as file:
            file.write((name if same_folder else str(self.last_ckpt)).encode())

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # sharded checkpoints are folders
            self.file_backend.rmtree(path)

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
            if key not in metrics:
                raise UserKeyError(
                    f'save_best={key!r} is none of the metrics that validation gave: {", ".join(metrics)}'
                )
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
                outdated.append(before)
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
        # again, so that a resumed run knows the best score and file
        if improved and self.last_ckpt is not None:
            self._save_checkpoint_with_step(runner, count, meta)
        if is_main_process():
            for path in outdated:
                self._remove(path)
                runner.logger.info(f'The former best checkpoint {path} is removed')


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

"""From a runner to its report; a run never fails by it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from mmdet.apis.report_hook import DETECTIONS, FOLDER, ReportHook
from mmdet.engine.console import say
from mmdet.engine.hooks.console_hook import duration
from mmdet.evaluation.collected import Collected


class RunReport:
    """Collects during a run, and writes the report and the last lines of the console after it.

    ``report = False`` in the config leaves all of it out, but for the lines.
    """

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.wanted = runner.cfg.get('report', True) is not False
        self._begin = time.monotonic()
        if self.wanted:
            runner.register_hook(ReportHook())

    def after_training(self) -> None:
        """Write the report of the work dir."""
        runner, folder = self.runner, Path(self.runner.work_dir)
        page = self._write(folder, getattr(runner._val_loop, 'dataloader', None))
        if is_main_process():
            for line in self._lines_of_training(folder, page):
                say(runner.logger, line)

    def after_test(self) -> None:
        """Write the report into the folder of the log."""
        runner = self.runner
        page = self._write(Path(runner._log_dir), runner.test_dataloader)
        if page is not None:
            say(runner.logger, f'  report    {page}')

    def _write(self, folder: Path, loader: Any) -> Path | None:
        if not self.wanted or not is_main_process():
            return None
        runner = self.runner
        try:
            from mmdet.apis.report import write_report

            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            return write_report(folder, runner.cfg, getattr(loader, 'dataset', None), model)
        except Exception as error:
            runner.logger.info(f'There is no report: {type(error).__name__}: {error}', exc_info=True)
            return None

    def _lines_of_training(self, folder: Path, page: Path | None) -> list[str]:
        runner = self.runner
        done = f'{runner.epoch} epochs' if runner.max_epochs > 1 else f'{runner.iter} steps'
        lines = [f'trained {done} in {duration(time.monotonic() - self._begin)}']
        try:
            lines += self._best(folder)
        except Exception as error:  # of a file that is damaged, for example
            runner.logger.info(f'The best epoch is not known: {error}')
        hub = runner.message_hub.runtime_info
        best = next((hub[key] for key in hub if key.startswith('best_ckpt') and hub[key]), None)
        if best:
            lines.append(f'  weights   {best} (the best)')
        last = folder / 'last_checkpoint'
        if last.is_file():
            lines.append(f'  {"" if best else "weights":<8}  {folder / last.read_text().strip()} (the last)')
        if page is not None:
            lines.append(f'  report    {page}')
            lines.append(f'  numbers   {page.with_name("results.csv")}')
        return lines

    def _best(self, folder: Path) -> list[str]:
        path = folder / FOLDER / DETECTIONS
        if not self.wanted or not path.is_file():
            return []
        kept = Collected.load(path)
        where = f'epoch {kept.meta["epoch"]}' if self.runner.max_epochs > 1 else f'step {kept.meta["iter"]}'
        lines = [f'  best      {where}, {kept.meta["metric"]} {kept.meta["score"]:.3f}']
        others = {n: v for n, v in kept.meta['metrics'].items() if n != kept.meta['metric'] and math.isfinite(v)}
        shown = [f'{name.rpartition("/")[2]} {value:.3f}' for name, value in others.items() if value != -1][:6]
        return [*lines, f'            {", ".join(shown)}'] if shown else lines

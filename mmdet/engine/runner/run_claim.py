"""The claim of a run on its folders, made by rank 0 for all ranks."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process

from mmdet.utils.run_folder import (
    FolderInUseError,
    FolderLock,
    RunRecord,
    is_own,
    is_run_id,
    new_run_id,
    point_to,
    read_record,
    remove_partial_files,
    write_record,
)

SECOND = '%Y%m%d_%H%M%S'
_named: set[str] = set()
"""Seconds after which runs of this process are named."""


class RunClaim:
    """Who a run is, and the folders that are its own while it trains.

    As a context manager it holds the work dir. Every rank makes the same calls; the ranks of a run are one owner.

    Attributes:
        run_id: The id of the run that trains; None before :meth:`begin`.
    """

    def __init__(self, work_dir: str | os.PathLike) -> None:
        self.work_dir = Path(work_dir)
        self.run_id: str | None = None
        self.held = False
        self._locks: list[FolderLock] = []
        self._resumed: tuple[Path, Any] | None = None

    def __enter__(self) -> RunClaim:
        self.take(self.work_dir)
        self.held = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held = False
        for lock in self._locks:
            lock.release()
        self._locks.clear()

    def take(self, folder: str | os.PathLike) -> None:
        """Claim a further folder; a collective call.

        Raises:
            FolderInUseError: on every rank, if another run has it.
        """
        failure: list[str | None] = [None]
        if is_main_process():
            lock = FolderLock(folder)
            try:
                lock.acquire(self.run_id or '')
                self._locks.append(lock)
            except FolderInUseError as error:
                failure = [str(error)]
        broadcast_object_list(failure)
        if failure[0] is not None:
            raise FolderInUseError(failure[0])

    def require(self) -> None:
        """Raise if another run has taken a folder in the meantime."""
        for lock in self._locks:
            lock.require()

    # ----------------------------------------------------------------------------------------------------------------
    def note_resumed(self, path: str, meta: dict) -> None:
        """Remember the checkpoint that is resumed, until :meth:`begin`."""
        self._resumed = (Path(path), meta.get('run_id'))

    def begin(self, resume: bool) -> list[str]:
        """Decide whose run this is and write it into the folder; a collective call.

        A run that is resumed from its own folder keeps its id. One that is resumed from elsewhere, or begins in a
        folder where others have trained, is a new one.

        Args:
            resume: Whether the run was told to go on, from whichever checkpoint.

        Returns:
            What there is to say.
        """
        decided: list = [self._begin(resume) if is_main_process() else None]
        broadcast_object_list(decided)
        self.run_id, notes = decided[0]
        return notes

    def _begin(self, resume: bool) -> tuple[str, list[str]]:
        before = read_record(self.work_dir)
        notes: list[str] = []
        if self._resumed is None:
            kept = before if resume else None  # of a run that was stopped before its first save
            record = kept or RunRecord(new_run_id())
            count = len(list(self.work_dir.glob('*.pth')))
            if count and not resume:
                notes.append(
                    f'{self.work_dir} holds {count} checkpoints of another run. They are never deleted, but those '
                    f'whose names this run uses as well are overwritten; --resume continues that run instead.'
                )
        else:
            record = self._of_resumed(*self._resumed, before)
        write_record(self.work_dir, record)
        remove_partial_files(self.work_dir, record.run_id)
        return record.run_id, notes

    def _of_resumed(self, path: Path, owner: Any, before: RunRecord | None) -> RunRecord:
        parent = os.path.realpath(path.parent)
        if parent != os.path.realpath(self.work_dir):
            pointed = before is not None and owner == before.run_id  # checkpoints may lie elsewhere by out_dir
            return before if pointed and before is not None else RunRecord(new_run_id(), os.path.abspath(path))
        point_to(self.work_dir, path.name, None)
        if is_run_id(owner):
            return RunRecord(owner, before.source if before is not None and before.run_id == owner else None)
        if before is not None and before.adopts:
            return before
        return RunRecord(new_run_id(), path.name, adopts=True)

    def owns(self, folder: str | os.PathLike, name: str) -> bool:
        """Whether a file directly in a folder is a checkpoint of this run."""
        return is_own(folder, name, self.run_id)


def unused_second(second: str) -> str:
    """The given second, such as '20261127_163200', or the next one by which no run of this process is named.

    A run, its log and the numbers that it keeps are named after the second in which it began. Two of one name would
    share them, and the later one would take the best score of the other for its own.
    """
    moment = datetime.strptime(second, SECOND)
    while moment.strftime(SECOND) in _named:
        moment += timedelta(seconds=1)
    _named.add(moment.strftime(SECOND))
    return moment.strftime(SECOND)

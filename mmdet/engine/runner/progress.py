"""How far a run has come through its data, counted in samples.

A checkpoint stores how the run went through its data (:class:`Pace`) and where it stood. A run that continues it at
another pace finds its place by the samples that were seen.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from mmengine.dist import all_gather_object

from mmdet.errors import UserRuntimeError, UserValueError


@dataclass(frozen=True)
class Pace:
    """How a run goes through its data.

    Attributes:
        by_epoch: Whether training is counted in epochs, not in iterations.
        batch_size: Samples of one iteration in one process.
        epoch_length: Iterations of a pass through the data.
        epoch_samples: Samples of a pass, of all processes.
        dataset_length: Samples that the data set has.
        endless: Whether a pass never ends; it has a length nevertheless.
    """

    by_epoch: bool
    world_size: int
    batch_size: int
    epoch_length: int
    epoch_samples: int
    dataset_length: int
    endless: bool
    workers: int
    accumulation: int

    @property
    def global_batch(self) -> int:
        """Samples of one iteration in all processes."""
        return self.world_size * self.batch_size

    def samples(self, batches: int) -> int:
        """How many samples the first ``batches`` iterations of a pass have."""
        return batches * self.global_batch if self.endless else min(batches * self.global_batch, self.epoch_samples)

    def batches(self, samples: int) -> int:
        """How many whole iterations of a pass these samples make; all of them when no sample is left."""
        if not self.endless and samples >= self.epoch_samples:
            return self.epoch_length
        return samples // self.global_batch if self.endless else min(samples // self.global_batch, self.epoch_length)

    def same_steps(self, other: Pace) -> bool:
        """Whether an iteration of one is that of the other: neither workers nor accumulation change it."""
        return all(
            getattr(self, field.name) == getattr(other, field.name)
            for field in fields(self)
            if field.name not in ('workers', 'accumulation')
        )

    def changes(self, former: Pace) -> list[str]:
        """What is not as it was, in words."""
        named = dict(
            by_epoch='loop',
            batch_size='batch size',
            world_size='processes',
            dataset_length='samples of the data set',
            workers='workers',
            accumulation='accumulated iterations',
            endless='sampler',
        )
        words = dict(by_epoch=('by iterations', 'by epochs'), endless=('with an end', 'without an end'))
        found = []
        for name, words_for_it in named.items():
            values = [getattr(former, name), getattr(self, name)]
            if values[0] != values[1]:
                old, new = (words[name][value] for value in values) if name in words else values
                found.append(f'{words_for_it} {old} -> {new}')
        if not found and not self.same_steps(former):
            found.append(f'iterations of an epoch {former.epoch_length} -> {self.epoch_length}')
        return found


@dataclass(frozen=True)
class Place:
    """Where a run stands: ``0 <= batch <= epoch_length``, unless a pass never ends.

    Attributes:
        passes: Passes through the data, or epochs, that are over.
        batch: Iterations of the present one that are over.
        iteration: The run's count of iterations.
        samples: Samples seen in all.
    """

    passes: int
    batch: int
    iteration: int
    samples: int


def pace_of(loop: Any, endless: bool, by_epoch: bool) -> Pace:
    """The pace of a training loop."""
    loader, runner = loop.dataloader, loop.runner
    batches = loader.batch_sampler
    sampler = loader.sampler if batches is None else getattr(batches, 'sampler', loader.sampler)
    length, world_size, dataset_length = _length(loader), runner.world_size, _length(loader.dataset)
    size = getattr(batches, 'batch_size', None) or loader.batch_size or 1
    size = max(size) if isinstance(size, (list, tuple)) else size
    samples = (len(sampler) if hasattr(sampler, '__len__') else dataset_length) * world_size
    if endless:
        samples = dataset_length
    elif samples > length * size * world_size:  # the rest is dropped
        samples = length * size * world_size
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if hasattr(wrapper, 'optim_wrappers') else [wrapper]
    accumulation = max((getattr(one, '_accumulative_counts', 1) for one in wrappers), default=1)
    return Pace(by_epoch, world_size, size, length, samples, dataset_length, endless, loader.num_workers, accumulation)


def _length(sized: Any) -> int:
    """Streams have none."""
    try:
        return len(sized)
    except TypeError:
        return 0


def require_batches(loader: Any, endless: bool) -> None:
    """Refuse a loader whose pass has no iteration, before the first one.

    Raises:
        UserValueError: says why there is none.
    """
    samples = _length(loader.dataset) if hasattr(loader.dataset, '__len__') else 1
    if samples and (endless or _length(loader)):
        return
    if not samples:
        raise UserValueError('train_dataloader has no sample to train on: its data set is empty')
    size = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
    raise UserValueError(
        f'train_dataloader gives no batch: {samples} samples do not fill one of batch_size={size} '
        f'and drop_last=True leaves the rest out. Use a smaller batch_size or drop_last=False'
    )


def require_ends(endless: bool) -> None:
    """Refuse a sampler that never ends in a loop that waits for the end of its epochs."""
    if endless:
        raise UserValueError(
            'The sampler of train_dataloader never ends, so that no epoch would: use IterBasedTrainLoop '
            'with max_iters, or a sampler such as DefaultSampler'
        )


def require_samples(loader: Any, name: str) -> None:
    """Refuse data for an evaluation that are none."""
    if hasattr(loader.dataset, '__len__') and not _length(loader.dataset):
        raise UserValueError(f'{name} has no sample to evaluate: its data set is empty')


def no_batches() -> UserValueError:
    """For a sampler that gives nothing although its length promises something."""
    return UserValueError(
        'A whole epoch of train_dataloader gave no batch: its sampler or batch_sampler leaves every sample out'
    )


def ran_out(runner: Any, done: int, length: int) -> UserRuntimeError:
    """For a rank whose epoch ends while others go on, which would wait for it."""
    return UserRuntimeError(
        f'Rank {runner.rank} ran out of data after iteration {runner.iter}: the epoch {runner.epoch + 1} gave it '
        f'{done} of {length} batches, and the other ranks wait for it. Its sampler must give every rank as many.'
    )


def require_equal_lengths(length: int) -> None:
    """Fail on every rank if their epochs differ in length; a collective call."""
    lengths = all_gather_object(length)
    if len(set(lengths)) > 1:
        raise UserValueError(
            f'the epochs of the ranks have {", ".join(map(str, lengths))} batches: '
            'the sampler of train_dataloader must give every rank as many'
        )


# --------------------------------------------------------------------------------------------------------------------
def to_store(pace: Pace, place: Place) -> dict:
    """What a checkpoint says about the place of its run."""
    return {
        **asdict(pace),
        'global_batch': pace.global_batch,
        'passes': place.passes,
        'batch': place.batch,
        'samples_in_pass': pace.samples(place.batch),
        'samples': place.samples,
    }


def _from_store(stored: Any) -> tuple[Pace, dict] | None:
    """The pace and the counts of a checkpoint; None where they are missing or make no sense."""
    if not isinstance(stored, dict):
        return None
    kinds = {field.name: bool if field.name in ('by_epoch', 'endless') else int for field in fields(Pace)}
    counts = ('passes', 'batch', 'samples_in_pass', 'samples')
    kinds.update(dict.fromkeys(counts, int))
    if any(type(stored.get(name)) is not kind or stored[name] < 0 for name, kind in kinds.items()):
        return None
    pace = Pace(**{field.name: stored[field.name] for field in fields(Pace)})
    if not pace.global_batch or not (pace.endless or (pace.epoch_length and pace.epoch_samples)):
        return None
    return pace, {name: stored[name] for name in counts}


def find_place(meta: dict, info: dict, pace: Pace) -> tuple[Place, str, bool]:
    """Where a run goes on that resumes a checkpoint at ``pace``.

    Args:
        meta: ``meta`` of the checkpoint: ``epoch``, ``iter`` and, unless another program or version wrote it,
            ``progress``.
        info: ``runtime_info`` of its message hub, which knows ``max_epochs`` and ``max_iters``.

    Returns:
        The place, what there is to say about it, and whether the meaning of an iteration has changed.
    """
    epoch, iteration = meta['epoch'], meta['iter']
    stored = _from_store(meta.get('progress'))
    if stored is None or (pace.by_epoch and stored[0].by_epoch and stored[1]['passes'] != epoch):
        return _guess_place(epoch, iteration, info, pace)
    former, counts = stored
    changes = pace.changes(former)
    if pace.same_steps(former):
        batch = counts['batch'] if pace.endless else min(counts['batch'], pace.epoch_length)
        place = Place(counts['passes'], batch, iteration, counts['samples'])
        note = f'Resumed with {", ".join(changes)}: the place in the data stays the same.' if changes else ''
        return place, note, False
    passes, seen = counts['passes'], counts['samples_in_pass']
    if pace.endless and not former.endless:
        passes, seen = 0, counts['samples']
    elif former.endless and not pace.endless:
        passes, seen = divmod(counts['samples'], max(pace.epoch_samples, 1))
    batch = pace.batches(seen)
    if not former.endless and counts['batch'] >= former.epoch_length and not pace.endless:
        batch = pace.epoch_length  # the epoch was over, however many samples it has now
    if pace.by_epoch:
        iteration = passes * pace.epoch_length + batch
    place = Place(passes, batch, iteration, counts['samples'])
    return place, f'Resumed with {", ".join(changes)}: {_words(place, pace, seen)}', True


def _words(place: Place, pace: Pace, seen: int) -> str:
    unit = 'epoch' if pace.by_epoch else 'pass'
    if pace.endless:
        where = f'{seen} samples were seen, so {place.batch} batches of the stream are left out'
    else:
        where = (
            f'{seen} samples of {unit} {place.passes + 1} were seen, so it goes on after {place.batch} '
            f'of the {pace.epoch_length} iterations of that {unit}'
        )
    if pace.by_epoch:
        return f'{where} (iteration {place.iteration} at this pace); schedules go on from there.'
    return f'{where}; iterations are counted on from {place.iteration}, and schedules go on from there.'


def _guess_place(epoch: int, iteration: int, info: dict, pace: Pace) -> tuple[Place, str, bool]:
    """The place by iterations alone: all that checkpoints of MMDetection 3.x and earlier versions of ours know."""
    length = pace.epoch_length
    unknown = 'The checkpoint does not say with which batch size and number of processes it was made'
    samples = iteration * pace.global_batch
    if not pace.by_epoch:
        passes, batch = (0, iteration) if pace.endless else divmod(iteration, length)
        return Place(passes, batch, iteration, samples), f'{unknown}: both are taken as unchanged.', False
    epochs, iterations = (n if isinstance(n, int) else 0 for n in (info.get('max_epochs'), info.get('max_iters')))
    if epoch == 0 and epochs == 1:  # a loop by iterations, which is one epoch for it
        epoch, done, former = iteration // length, iteration % length, length
    else:
        former = iterations // epochs if epochs > 0 and iterations > 0 and iterations % epochs == 0 else length
        done = iteration - epoch * former
    if former == length and 0 <= done <= length:
        place = Place(epoch, done, iteration, samples)
        return place, f'{unknown}: both are taken as unchanged.', False
    batch = done * length // former if 0 <= done <= former else 0
    place = Place(epoch, batch, epoch * length + batch, samples)
    reason = f'iteration {iteration} with {epoch} whole epochs does not fit epochs of {length} iterations'
    where = f'training goes on after {batch} iterations of epoch {epoch + 1}, and schedules go on from there'
    return place, f'{unknown}, and {reason}: {where}.', True


# --------------------------------------------------------------------------------------------------------------------
class Schedules:
    """The parameter schedulers of a runner as they were built, to be played to another place.

    Schedules are chains of small steps, some by iterations and some by epochs, so a place is reached by taking these
    steps, from the values that the config at hand starts with.
    """

    def __init__(self, runner: Any) -> None:
        self.schedulers = [s for s in _flat(runner.param_schedulers) if hasattr(s, 'optimizer')]
        self.fresh = [copy.deepcopy(s.state_dict()) for s in self.schedulers]
        self.names = {s.param_name for s in self.schedulers}
        names = self.names | {f'initial_{name}' for name in self.names}
        optimizers = list({id(s.optimizer): s.optimizer for s in self.schedulers}.values())
        self._values = [
            (one, [{n: copy.deepcopy(group[n]) for n in names if n in group} for group in one.param_groups])
            for one in optimizers
        ]

    def play_to(self, place: Place, pace: Pace) -> bool:
        """Bring schedulers and optimizers to where ``place`` is at ``pace``.

        Returns:
            False when a scheduler needs the results of validations: then all stay as the checkpoint has them.
        """
        if any(getattr(s, 'need_val_args', False) for s in self.schedulers):
            return False
        for scheduler, state in zip(self.schedulers, self.fresh, strict=True):
            scheduler.load_state_dict(copy.deepcopy(state))
        for optimizer, groups in self._values:
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.update(copy.deepcopy(values))
        by_epoch = [s for s in self.schedulers if s.by_epoch]
        by_iteration = [s for s in self.schedulers if not s.by_epoch]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that no optimizer step came before them
            for iteration in range(1, place.iteration + 1):
                for scheduler in by_iteration:
                    scheduler.step()
                ended, rest = divmod(iteration, max(pace.epoch_length, 1))
                if pace.by_epoch and not rest and ended <= place.passes:
                    for scheduler in by_epoch:
                        scheduler.step()
        return True


def _flat(schedulers: Any) -> Iterable[Any]:
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers or []]
    return [scheduler for group in groups for scheduler in (group if isinstance(group, list) else [group])]

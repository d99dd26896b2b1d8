"""Feeds the readers of the package with damaged and hostile files: a result or one sentence, and nothing else.

    python tests/fuzz/fuzz.py                              # all kinds, a minute each
    python tests/fuzz/fuzz.py checkpoint http --seconds 600 --seed 5
    python tests/fuzz/fuzz.py coco --seed 5 --only 1234    # one input again, with its traceback

An input is a function of kind, seed and number. What counts as a finding: an exception that is no
:class:`mmdet.errors.UserError`, a message that is not a sentence or two, more than ten seconds of CPU time, more than
half a gigabyte of memory, the end of the process, and whatever :mod:`watch` forbids.
"""

import argparse
import gc
import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
from inputs import KINDS
from watch import Watch, tree

from mmdet.errors import UserError

SECONDS, WALL, MEBIBYTES = 10, 60, 512
"""CPU time, time, and growth of memory that one input may take."""


class TooSlow(BaseException):
    """An input took too long; no ``except Exception`` stops it."""


def _stop(number, frame):
    raise TooSlow(f'more than {SECONDS} s of CPU time or {WALL} s')


def examine(kind, watch, target):
    """'result', 'sentence', or what is wrong with how an input was read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL)
    try:
        try:
            with watch():
                kind.read(target)
            ended = 'result'
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except UserError as error:
        text = str(error)
        good = text.strip() and len(text) < 2000 and 'Traceback' not in text and text.count('\n') < 6
        ended = 'sentence' if good else f'no sentence: {text[:300]!r}'
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ended = f'{type(error).__name__}: {str(error)[:200]} (at {where.filename}:{where.lineno})'
        if os.environ.get('MMDET_DEBUG'):
            traceback.print_exc()
    if watch.seen:
        return f'forbidden: {"; ".join(watch.seen[:3])}'
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return f'{grown} MiB of memory' if grown > MEBIBYTES else ended


def work(name, seed, numbers, folder, at, pipe):
    """Read inputs of a kind, in a process of its own, and send what became of each."""
    logging.disable(logging.CRITICAL)
    if not os.environ.get('MMDET_DEBUG'):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print
    warnings.simplefilter('ignore')
    sys.setrecursionlimit(1000)  # what test runners raise
    inside = Path(folder) / 'inside'
    (inside / 'tmp').mkdir(parents=True, exist_ok=True)
    os.environ['TMPDIR'] = tempfile.tempdir = str(inside / 'tmp')
    signal.signal(signal.SIGPROF, _stop)
    signal.signal(signal.SIGALRM, _stop)
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    kind = KINDS[name](inside / 'run')
    kind.warm_up()
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), resource.RLIM_INFINITY))
    watch = Watch(inside, kind.port)
    for number in numbers:
        at.value = number
        pipe.send((number, examine(kind, watch, kind.write(Random(f'{name}/{seed}/{number}')))))
        if number % 256 == 0:
            gc.collect()
    pipe.send(None)
    os._exit(0)


def fuzz(name, seed=0, count=10**9, seconds=60.0, only=None):
    """Read inputs of a kind until there are ``count`` or the time is over.

    Returns:
        How many ended as 'result' and 'sentence', and the findings by number.
    """
    counts, findings, number = Counter(), {}, only or 0
    end, last = time.monotonic() + seconds, count if only is None else only + 1
    context = multiprocessing.get_context('fork')
    with tempfile.TemporaryDirectory(prefix='mmdet_fuzz_') as folder:
        victim = Path(folder) / 'victim' / 'precious.txt'
        victim.parent.mkdir()
        victim.write_text('precious')
        outside = tree(victim.parent)
        while number < last and time.monotonic() < end:
            at, (mine, theirs) = context.Value('q', number), context.Pipe(duplex=False)
            process = context.Process(target=work, args=(name, seed, range(number, last), folder, at, theirs))
            process.start()
            theirs.close()
            found, quiet = None, False
            try:
                while time.monotonic() < end:
                    if not mine.poll(3 * WALL):
                        quiet = True
                        break
                    found = mine.recv()
                    if found is None:
                        break
                    number = found[0] + 1
                    if found[1] in ('result', 'sentence'):
                        counts[found[1]] += 1
                    else:
                        findings[found[0]] = found[1]
                        if 'memory' in found[1]:
                            break
            except EOFError:
                process.join()
                findings[at.value], number = f'the process ended with {process.exitcode}', at.value + 1
            if quiet:
                findings[at.value], number = 'it hangs', at.value + 1
            process.kill()
            process.join()
            if found is None and number >= last:
                break
        if tree(victim.parent) != outside:
            findings[-1] = 'a file outside of the folder was changed'
    return counts, findings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('kinds', nargs='*', help=f'of {", ".join(KINDS)}; all by default')
    parser.add_argument('--seconds', type=float, default=60, help='for each kind')
    parser.add_argument('--count', type=int, default=10**9, help='of inputs of each kind, at most')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', type=int, help='the number of one input')
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if args.only is not None:
        os.environ['MMDET_DEBUG'] = '1'
    failed = False
    for name in args.kinds or KINDS:
        counts, findings = fuzz(name, args.seed, args.count, args.seconds, args.only)
        results, sentences = counts['result'], counts['sentence']
        total = results + sentences + len(findings)
        print(f'{name}: {total} inputs, {results} results, {sentences} sentences, {len(findings)} findings')
        for number, text in list(findings.items())[:20]:
            print(f'  --seed {args.seed} --only {number}: {text}')
        sys.stdout.flush()
        failed = failed or bool(findings)
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())

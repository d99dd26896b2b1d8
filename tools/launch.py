"""torchrun whose ranks save and end when it is told to end, and whose exit code tells what became of them.

It takes the arguments of torchrun. SIGTERM, SIGUSR1, SIGINT and SIGHUP go to every rank; a training saves after the
iteration, and the exit code is 143 or 138 if all of them have. Otherwise it is that of the first rank that failed.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path


def main(argv=None):
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    def stop(number, frame):
        raise SignalException(f'received {signal.Signals(number).name}', signal.Signals(number))

    signal.signal(signal.SIGUSR1, stop)  # torchrun itself handles the others
    # torchrun's 30 s are few for an iteration and a checkpoint
    os.environ.setdefault('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', '120')
    settings = parse_args(argv)
    if ':' in settings.nnodes:
        # the shared store's address is told once, so a machine that joins later would wait for it for ever
        os.environ.setdefault('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    with tempfile.TemporaryDirectory(prefix='mmdet_ranks_') as folder:
        os.environ['MMDET_EXIT_CODES'] = folder
        try:
            run(settings)
        except SignalException as error:
            code = 128 + error.sigval
            told = [path.read_text() for path in Path(folder).iterdir()]
            if set(told) == {'0'}:
                return 0  # training was over
            if error.sigval not in (signal.SIGTERM, signal.SIGUSR1):
                return code  # nothing is saved on the others
            if all(text == str(code) for text in told):  # none: they had not begun to train
                return code
            print(f'error: not every rank has saved before it ended: {told}', file=sys.stderr)
            return 1
        except ChildFailedError as error:
            for rank, failure in sorted(error.failures.items()):
                print(f'rank {rank} (process {failure.pid}) ended with code {failure.exitcode}', file=sys.stderr)
            code = error.get_first_failure()[1].exitcode
            return code if code > 0 else 128 - code
    return 0


if __name__ == '__main__':
    sys.exit(main())

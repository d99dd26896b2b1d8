"""How fast a detector, its data loader or its data set is."""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import DictAction


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--checkpoint', help='checkpoint file; weights are random without one')
    parser.add_argument('--task', choices=['inference', 'dataloader', 'dataset'], default='dataloader')
    parser.add_argument('--repeat-num', type=int, default=1, help='measurements that are averaged (default: 1)')
    parser.add_argument('--max-iter', type=int, default=2000, help='iterations of one measurement (default: 2000)')
    parser.add_argument(
        '--log-interval', type=int, default=50, help='iterations between lines of the log (default: 50)'
    )
    parser.add_argument('--num-warmup', type=int, default=5, help='first iterations, which do not count (default: 5)')
    parser.add_argument('--fuse-conv-bn', action='store_true', help='fold batch norms into convolutions')
    parser.add_argument(
        '--dataset-type', choices=['train', 'val', 'test'], default='test', help='of loader and data set'
    )
    parser.add_argument('--work-dir', help='folder for a log file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='as for training')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def benchmark(args):
    from mmengine.logging import MMLogger

    from mmdet.config import load_config
    from mmdet.utils.benchmark import DataLoaderBenchmark, DatasetBenchmark, InferenceBenchmark

    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    log_file = None
    if args.work_dir:
        os.makedirs(args.work_dir, exist_ok=True)
        log_file = os.path.join(args.work_dir, 'benchmark.log')
    logger = MMLogger.get_instance('mmdet', log_file=log_file, log_level='INFO')
    times = dict(max_iter=args.max_iter, log_interval=args.log_interval, num_warmup=args.num_warmup, logger=logger)
    distributed = args.launcher != 'none'
    if args.task == 'inference':
        task = InferenceBenchmark(cfg, args.checkpoint, distributed, args.fuse_conv_bn, **times)
    elif args.task == 'dataloader':
        task = DataLoaderBenchmark(cfg, distributed, args.dataset_type, **times)
    else:
        task = DatasetBenchmark(cfg, args.dataset_type, **times)
    task.run(args.repeat_num)


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(benchmark, arguments))

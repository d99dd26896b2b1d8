"""Evaluate a detector on pictures corrupted in the ways of arXiv:1907.07484, in five severities each.

    python tools/analysis_tools/test_robustness.py CONFIG CHECKPOINT --corruptions fog --out fog.pkl

It needs the package imagecorruptions: pip install imagecorruptions-imaug (its kept fork) or imagecorruptions.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.arguments import add_common_arguments, export_local_rank


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='file for the numbers, .pkl or .json; they go to NAME_results.SUFFIX')
    parser.add_argument(
        '--corruptions',
        nargs='+',
        default=['benchmark'],
        help='all, benchmark (15), noise, blur, weather, digital, holdout, None, or names such as fog',
    )
    parser.add_argument('--severities', type=int, nargs='+', default=[0, 1, 2, 3, 4, 5], help='0 to 5, 0 for none')
    parser.add_argument('--summaries', action='store_true', help='print the numbers of every corruption and severity')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder, inside the work dir, for pictures with the predictions drawn')
    parser.add_argument('--show-score-thr', type=float, default=0.3, help='detections above it are drawn')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each picture')
    parser.add_argument('--seed', type=int, help='of the random numbers, those of corruptions included')
    parser.add_argument('--final-prints', nargs='+', choices=['P', 'mPC', 'rPC'], default=['mPC'])
    parser.add_argument('--final-prints-aggregate', choices=['all', 'benchmark'], default='benchmark')
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    if not all(0 <= severity <= 5 for severity in args.severities):
        parser.error(f'--severities are 0 to 5, not {args.severities}')
    if args.out and not args.out.endswith(('.pkl', '.pickle', '.json')):
        parser.error(f'--out must end with .pkl or .json, not {args.out!r}')
    export_local_rank(args)
    return args


def require_corruptions():
    """Stop before anything is built where pictures cannot be corrupted."""
    from mmdet.datasets.transforms.third_party import corrupt_function

    corrupt_function()


def build(args):
    """The runner of a clean evaluation."""
    from mmdet.apis.launch import build_runner, prepare
    from mmdet.checks.config_check import require_known_names
    from mmdet.engine.hooks import trigger_visualization_hook

    cfg = prepare(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=args.seed)
    if args.show or args.show_dir:
        cfg.default_hooks.setdefault('visualization', dict(type='DetVisualizationHook'))
        cfg = trigger_visualization_hook(cfg, args)
        cfg.default_hooks.visualization.score_thr = args.show_score_thr
    require_known_names(cfg, print)
    return build_runner(cfg)


def evaluate(runner, corruption, severity, seed=None):
    """The numbers of one corruption and severity, with the same random numbers for each."""
    import copy

    from mmengine.runner import set_random_seed

    from mmdet.apis.robustness import corrupted_pipeline
    from mmdet.config import innermost_datasets

    cfg = copy.deepcopy(runner.cfg)
    for _, dataset in innermost_datasets(cfg, 'test_dataloader'):
        dataset['pipeline'] = corrupted_pipeline(dataset['pipeline'], corruption, severity)
    set_random_seed(seed or 0)
    runner.test_loop.dataloader = runner.build_dataloader(cfg.test_dataloader, seed=seed or 0)
    return runner.test()


def main(args):
    from mmengine.dist import is_main_process

    from mmdet.apis.robustness import chosen_corruptions, lines_of, summarize

    corruptions = chosen_corruptions(args.corruptions)
    severities = [0] if corruptions == ['None'] else sorted(set(args.severities))
    if max(severities) > 0:
        require_corruptions()
    runner = build(args)
    results, clean = {}, None
    for corruption in corruptions:
        results[corruption] = {}
        for severity in severities:
            if severity == 0 and clean is not None:
                results[corruption][0] = clean
                continue
            numbers = evaluate(runner, corruption, severity, args.seed)
            clean = numbers if severity == 0 else clean
            results[corruption][severity] = dict(numbers)
            if is_main_process():
                write(results, args.out)
                if args.summaries:
                    print(
                        f'{corruption}, severity {severity}: ' + ', '.join(f'{k} {v:.3f}' for k, v in numbers.items())
                    )
    if is_main_process():
        table = {}
        for dataset, task in (('coco', 'bbox'), ('voc', 'bbox')):
            if not table and any(('bbox_mAP' in key) == (dataset == 'coco') for key in numbers):
                table = summarize(results, dataset, task, aggregate=args.final_prints_aggregate)
        print('\n'.join(lines_of(table, args.final_prints)))


def write(results, out):
    from mmengine.fileio import dump

    if out:
        stem, suffix = os.path.splitext(out)
        dump(results, f'{stem}_results{suffix}')


if __name__ == '__main__':
    arguments = parse_args()
    from mmdet.apis.launch import run_tool

    sys.exit(run_tool(main, arguments))

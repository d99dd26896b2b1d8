"""Write docs/catalogue.md: every algorithm, its configs, published results, sizes, and what is shown to be equal.

What takes long or lies elsewhere is kept in docs/catalogue.json, which the options fill:

    python tools/misc/catalogue.py                         # the page alone, from the configs and the kept facts
    python tools/misc/catalogue.py --new                   # sizes of the configs that have none yet
    python tools/misc/catalogue.py --measure 'retinanet/*' # sizes of these configs, anew
    python tools/misc/catalogue.py --zoo model_zoo.json    # published results
    python tools/misc/catalogue.py --cases FOLDER          # which configs have frozen results to compare with
    python tools/misc/catalogue.py --parity result.json    # what parity.py check ... --json result.json wrote
"""

import argparse
import contextlib
import fnmatch
import functools
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, FACTS, PAGE = ROOT / 'configs', ROOT / 'docs' / 'catalogue.json', ROOT / 'docs' / 'catalogue.md'
NO_ALGORITHM = ('_base_', 'common', 'quickstart')
SIDES = (800, 1333)  # of pictures where the config does not say
INTRODUCTION = """# Catalogue

Each folder of `configs/` is an algorithm, a backbone or a way to train. The first table has one row for each with the
config that its README starts with, the second part has all configs.

* **box AP, mask AP**: what MMDetection 3.x published for the same config, on COCO unless said.
* **parameters, multiply-adds**: of our model, the latter for one picture at the size at which the config tests (with
  the proposals that the second stage takes then). Decoding, suppression and deformable convolutions are
  not counted.
* **parity**: *shown* where losses and predictions have been compared with frozen results of MMDetection 3.3 for this
  config and agree, *differs* where they do not in some number, *case* where such results are there and no comparison
  has been recorded. Those of Grounding DINO that differ hang on ties, see [Migration](migration.md).
* **here**: how many of the configs with a model can be built with this package alone.

`tools/misc/catalogue.py` writes this page.
"""


def families() -> list[str]:
    return sorted(path.parent.name for path in CONFIGS.glob('*/README.md') if path.parent.name not in NO_ALGORITHM)


def configs_of(family: str) -> list[str]:
    return sorted(path.relative_to(CONFIGS).as_posix() for path in (CONFIGS / family).rglob('*.py'))


def main_config(family: str) -> str | None:
    """The config that the README trains in its section on use."""
    found = re.search(
        r'tools/train\.py configs/(\S+\.py)', (CONFIGS / family / 'README.md').read_text(encoding='utf-8')
    )
    return found and found.group(1)


# --------------------------------------------------------------------------------------------------------------------
# What is kept
def load_facts() -> dict:
    return json.loads(FACTS.read_text(encoding='utf-8')) if FACTS.is_file() else {}


def dump_facts(facts: dict) -> str:
    """JSON with a line for each entry."""
    parts = []
    for name, entries in sorted(facts.items()):
        lines = ',\n'.join(f'  {json.dumps(key)}: {json.dumps(value)}' for key, value in sorted(entries.items()))
        parts.append(f' {json.dumps(name)}: {{\n{lines}\n }}')
    return '{\n' + ',\n'.join(parts) + '\n}\n'


def published(zoo: dict) -> tuple[dict, dict]:
    """Names of families, and results by config, of the record of published models."""
    names: dict[str, str] = {}
    for name, entry in zoo['collections'].items():
        names.setdefault(entry['family'], name)
    results = {}
    for model in zoo['models']:
        config = model['config'].replace('%2B', '+')
        config = config if '/' in config else f'{model["family"]}/{config}'
        if (CONFIGS / config).is_file():
            results[config] = {_label(key): value for key, value in model['results'].items()}
    return names, results


def _label(result: str) -> str:
    _, data, metric = result.split(' · ')
    return metric if data == 'COCO' and metric in ('box AP', 'mask AP', 'PQ') else f'{metric} on {data}'


def agreement(table: list[dict]) -> dict:
    """Config -> whether the case agrees, of what the comparison with the reference wrote."""
    result: dict[str, bool] = {}
    for row in table:
        family, _, rest = row['case'].partition('__')
        config = next((name for name in configs_of(family) if name[:-3].replace('/', '__') == row['case']), None)
        config = config or next((name for name in configs_of(family) if Path(name).stem == rest), None)
        if config is not None:
            result[config] = result.get(config, True) and row['stage'] == 'ok'
    return result


# --------------------------------------------------------------------------------------------------------------------
# What is measured
def test_size(cfg: dict) -> tuple[int, int]:
    """Height and width at which a config tests a picture of the largest shape that its resizing leaves."""
    dataset = (cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}).get('dataset') or {}
    for step in dataset.get('pipeline') or ():
        scale = step.get('scale')
        if 'Resize' in str(step.get('type')) and isinstance(scale, (list, tuple)) and isinstance(scale[0], int):
            width, height = scale
            return (min(scale), max(scale)) if step.get('keep_ratio') else (height, width)
    return SIDES


def measure(cfg: dict) -> list:
    """Parameters, multiply-adds (None where an operation tells no shape), height and width."""
    import torch
    from mmengine.config import ConfigDict
    from torch.utils.flop_counter import FlopCounterMode

    from mmdet.registry import MODELS

    with torch.device('meta'):
        model = MODELS.build(ConfigDict(cfg['model'])).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    height, width = test_size(cfg)
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
    padded = [-(-side // divisor) * divisor for side in (height, width)]
    # there is no autocast for shapes alone
    no_autocast = mock.patch('torch.autocast', lambda *args, **kwargs: contextlib.nullcontext())
    with torch.device('meta'), torch.no_grad(), no_autocast, FlopCounterMode(display=False) as counter:
        try:
            forward(model, torch.empty(1, 3, *padded), (height, width))
        except (NotImplementedError, RuntimeError) as error:
            print(f'  its multiply-adds are not counted: {str(error).splitlines()[0][:100]}')
            return [parameters, None, height, width]
    return [parameters, counter.get_total_flops() // 2, height, width]


def forward(model, image, size: tuple[int, int]) -> None:
    """The network on a picture without content, whose second stage takes as many proposals as the config allows."""
    import torch
    from mmengine.structures import InstanceData

    from mmdet.structures import DetDataSample

    padded = tuple(image.shape[2:])
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    sample.set_metainfo(dict(pad_shape=padded, batch_input_shape=padded))
    if getattr(model, 'roi_head', None) is None:
        model(image, [sample], mode='tensor')
        return
    features = model.extract_feat(image)
    count = 1000
    if model.with_rpn:
        model.rpn_head(features)
        count = model.test_cfg.rpn.get('max_per_img', count)
    proposals = InstanceData(bboxes=torch.empty(count, 4), scores=torch.empty(count))
    model.roi_head.forward(features, [proposals], [sample])


def can_be_measured(cfg: dict) -> bool:
    """Whether a config has a model whose classes are all in this package, or in an optional one."""
    return 'model' in cfg and not absent_names(cfg['model']) and 'mmcls.' not in repr(cfg['model'])


def measured(wanted: Callable[[str], bool], known: dict) -> dict:
    """``known`` with the configs that are wanted and can be built, measured once for each model."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    by_model: dict[str, list] = {}
    for config in filter(wanted, (name for family in families() for name in configs_of(family))):
        cfg = Config.fromfile(CONFIGS / config)._cfg_dict.to_dict()
        if not can_be_measured(cfg):
            continue
        key = repr((cfg['model'], test_size(cfg)))
        if key not in by_model:
            print(config, flush=True)
            try:
                by_model[key] = measure(cfg)
            except (ImportError, KeyError, ValueError) as error:  # an optional package, or a mistake in the config
                print(f'  cannot be built: {error}')
                continue
        known = {**known, config: by_model[key]}
    return known


@functools.cache
def _mark_configs():
    import importlib.util

    spec = importlib.util.spec_from_file_location('mark_configs', Path(__file__).with_name('mark_configs.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def absent_names(value) -> set[str]:
    """As tools/misc/mark_configs.py finds them."""
    return _mark_configs().absent_names(value)


# --------------------------------------------------------------------------------------------------------------------
# The page
def page(facts: dict) -> str:
    lines = [INTRODUCTION, '## Algorithms\n']
    lines += ['| | config | box AP | mask AP | parameters | multiply-adds | at | parity | here |', '| --- ' * 9 + '|']
    lines += [_algorithm(family, facts) for family in families()]
    lines += ['\n## Configs']
    for family in families():
        lines += [f'\n### {_name(family, facts)}\n']
        lines += ['| config | box AP | mask AP | others | parameters | multiply-adds | parity |', '| --- ' * 7 + '|']
        lines += [_config(name, facts) for name in configs_of(family)]
    return '\n'.join(lines) + '\n'


def _name(family: str, facts: dict) -> str:
    title = (CONFIGS / family / 'README.md').read_text(encoding='utf-8').partition('\n')[0].removeprefix('# ')
    return f'[{facts["families"].get(family, title)}](../configs/{family}/README.md)'


def _algorithm(family: str, facts: dict) -> str:
    config, names = main_config(family), configs_of(family)
    size = facts['measured'].get(config)
    at = f'{size[2]}x{size[3]}' if size and size[1] is not None else ''
    here = f'{sum(name in facts["measured"] for name in names)} of {len(names)}'
    link = f'[{Path(config).stem}](../configs/{config})' if config else ''
    box, mask, _ = _results(config, facts)
    return _row(_name(family, facts), link, box, mask, *_sizes(config, facts), at, _parity(config, facts), here)


def _config(config: str, facts: dict) -> str:
    link = f'[{config.partition("/")[2].removesuffix(".py")}](../configs/{config})'
    return _row(link, *_results(config, facts), *_sizes(config, facts), _parity(config, facts))


def _results(config: str | None, facts: dict) -> tuple[str, str, str]:
    results = dict(facts['published'].get(config, {}))
    box, mask = (results.pop(name, '') for name in ('box AP', 'mask AP'))
    return str(box), str(mask), ', '.join(f'{value} {name}' for name, value in results.items())


def _sizes(config: str | None, facts: dict) -> tuple[str, str]:
    parameters, work, *_ = facts['measured'].get(config, (None, None))
    return f'{parameters / 1e6:.1f} M' if parameters else '', f'{work / 1e9:.1f} G' if work else ''


def _parity(config: str | None, facts: dict) -> str:
    return {None: '', True: 'shown', False: 'differs', 'case': 'case'}[facts['parity'].get(config)]


def _row(*cells: str) -> str:
    return f'| {" | ".join(cells)} |'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--measure', nargs='+', default=[], metavar='GLOB', help='measure these configs anew')
    parser.add_argument('--new', action='store_true', help='measure the configs that have not been measured')
    parser.add_argument('--zoo', type=Path, help='record of published models')
    parser.add_argument('--cases', type=Path, help='folder of the frozen results')
    parser.add_argument('--parity', type=Path, nargs='+', default=[], help='results of comparing with them')
    parser.add_argument('--check', action='store_true', help='write nothing; exit with 1 where the page is out of date')
    args = parser.parse_args()
    facts = {name: {} for name in ('families', 'published', 'measured', 'parity')} | load_facts()
    if args.zoo:
        facts['families'], facts['published'] = published(json.loads(args.zoo.read_text(encoding='utf-8')))
    if args.cases:
        rows = [dict(case=path.name.partition('.json')[0], stage='ok') for path in sorted(args.cases.glob('*.json*'))]
        facts['parity'] = {config: 'case' for config in agreement(rows)} | facts['parity']
    for path in args.parity:
        facts['parity'] |= agreement(json.loads(path.read_text(encoding='utf-8')))
    if args.measure or args.new:
        before = facts['measured']
        facts['measured'] = measured(
            lambda name: (args.new and name not in before) or any(fnmatch.fnmatch(name, glob) for glob in args.measure),
            before,
        )
    text = page(facts)
    if args.check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding='utf-8') != text)
    FACTS.write_text(dump_facts(facts), encoding='utf-8')
    PAGE.write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""docs/catalogue.md is what its script makes of the configs and of the facts beside it, and the facts are right."""

import importlib.util
import json
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

ROOT = Path(__file__).resolve().parents[2]
FRESHEN = 'run python tools/misc/catalogue.py --new'


def script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CATALOGUE = script(ROOT / 'tools' / 'misc' / 'catalogue.py')
FACTS = CATALOGUE.load_facts()
EVERY_CONFIG = [name for family in CATALOGUE.families() for name in CATALOGUE.configs_of(family)]


def config(name):
    return Config.fromfile(ROOT / 'configs' / name)._cfg_dict.to_dict()


def test_the_page_is_up_to_date():
    assert CATALOGUE.PAGE.read_text(encoding='utf-8') == CATALOGUE.page(FACTS), FRESHEN
    assert CATALOGUE.FACTS.read_text(encoding='utf-8') == CATALOGUE.dump_facts(FACTS)


def test_every_algorithm_and_config_is_in_it():
    algorithms, _, lists = CATALOGUE.page(FACTS).partition('## Configs')
    assert all(f'(../configs/{family}/README.md)' in algorithms for family in CATALOGUE.families())
    assert not [name for name in EVERY_CONFIG if f'(../configs/{name})' not in lists]
    assert len(EVERY_CONFIG) > 700 and {'atss', 'rtmdet'} <= set(CATALOGUE.families())
    for facts in ('published', 'measured', 'parity'):
        assert not set(FACTS[facts]) - set(EVERY_CONFIG), f'{facts} of configs that are not there'


@pytest.mark.parametrize(
    'name',
    ['retinanet/retinanet_r50_fpn_1x_coco.py', 'yolox/yolox_tiny_8xb8-300e_coco.py', 'htc/htc_r50_fpn_1x_coco.py'],
)
def test_a_size_is_that_of_the_model(name, default_scope):
    assert CATALOGUE.measure(config(name)) == FACTS['measured'][name]


def test_multiply_adds_are_those_of_a_real_picture(default_scope):
    from mmdet.registry import MODELS

    cfg = config('retinanet/retinanet_r18_fpn_1x_coco.py')
    cfg['model']['backbone']['init_cfg'] = None
    cfg['test_dataloader']['dataset']['pipeline'][1]['scale'] = (64, 96)
    tool = script(ROOT / 'tools' / 'analysis_tools' / 'get_flops.py')
    real = tool.count(MODELS.build(ConfigDict(cfg['model'])).eval(), tool.random_picture([64, 96]))
    assert CATALOGUE.measure(cfg)[1:] == [real[''], 64, 96]


@pytest.mark.parametrize(
    ('step', 'size'),
    [
        (dict(type='Resize', scale=(1333, 800), keep_ratio=True), (800, 1333)),
        (dict(type='mmdet.Resize', scale=(512, 300), keep_ratio=False), (300, 512)),
        (dict(type='FixScaleResize', scale=(800, 1333), keep_ratio=True), (800, 1333)),
        (dict(type='Pad', size=(7, 7)), (800, 1333)),
    ],
)
def test_size_of_pictures(step, size):
    assert CATALOGUE.test_size(dict(test_dataloader=dict(dataset=dict(pipeline=[dict(type='Load'), step])))) == size


def test_results_of_a_comparison_are_kept():
    rows = [
        dict(case='atss__atss_r50_fpn_1x_coco', stage='ok'),
        dict(case='retinanet__retinanet_r50_fpn_1x_coco', stage='loss'),
        dict(case='nothing__of_ours', stage='ok'),
    ]
    found = {'atss/atss_r50_fpn_1x_coco.py': True, 'retinanet/retinanet_r50_fpn_1x_coco.py': False}
    assert CATALOGUE.agreement(rows) == found
    facts = {**FACTS, 'parity': found}
    assert '| shown |' in CATALOGUE._config('atss/atss_r50_fpn_1x_coco.py', facts)
    assert '| differs |' in CATALOGUE._config('retinanet/retinanet_r50_fpn_1x_coco.py', facts)


def test_the_facts_are_those_of_the_record(shared_dir):
    zoo = json.loads((shared_dir / 'facts' / 'model_zoo.json').read_text())
    assert (FACTS['families'], FACTS['published']) == CATALOGUE.published(zoo)
    cases = [
        dict(case=path.name.partition('.json')[0], stage='ok') for path in (shared_dir / 'parity' / 'cases').iterdir()
    ]
    assert set(FACTS['parity']) == set(CATALOGUE.agreement(cases))

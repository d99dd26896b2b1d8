"""Every config loads, and resolves as the reference of the same path does."""

import ast
import gzip
import json
import re

import pytest
from config_files import (
    CONFIGS,
    FAMILIES,
    FAMILIES_WITH_MODELS,
    FILES,
    MARKS,
    family_files,
    reading_each_file_once,
    resolve,
    whole,
)
from mmengine.config import Config
from one_step import with_language_model

# What decides training, evaluation and test-time augmentation.
KEYS = ['model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator']
KEYS += ['optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'custom_hooks', 'auto_scale_lr']
KEYS += ['tta_model', 'tta_pipeline']


@pytest.fixture(scope='module', autouse=True)
def read_files_once():
    with reading_each_file_once():
        yield


# Where ours leaves the reference on purpose; the README of the family says why.
ON_PURPOSE = {'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712-cocofmt.py'}


def bases_of(path):
    """The values of ``_base_`` as written, without running the file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else value
    return []


def differences(have, want, where=''):
    """Paths at which two plain values differ; a list and a tuple of equal items are equal."""
    if isinstance(have, dict) and isinstance(want, dict):
        for key in [*want, *(k for k in have if k not in want)]:
            if key not in have or key not in want:
                yield f'{where}.{key}: {"missing" if key not in have else "not in the reference"}'
            else:
                yield from differences(have[key], want[key], f'{where}.{key}')
    elif isinstance(have, (list, tuple)) and isinstance(want, (list, tuple)) and len(have) == len(want):
        for i, pair in enumerate(zip(have, want, strict=True)):
            yield from differences(*pair, f'{where}[{i}]')
    elif have != want:
        yield f'{where}: {str(have)[:80]}, want {str(want)[:80]}'


def untuple(value):
    """JSON has no tuples: ``{"tuple": [...]}`` stands for one."""
    if isinstance(value, dict):
        if set(value) == {'tuple'}:
            return tuple(untuple(v) for v in value['tuple'])
        return {k: untuple(v) for k, v in value.items()}
    return [untuple(v) for v in value] if isinstance(value, list) else value


def reference(shared_dir, family):
    path = shared_dir / 'parity' / 'configs' / f'{family}.json.gz'
    if not path.is_file():
        pytest.skip(f'the reference has no {family}')
    with gzip.open(path, 'rt') as file:
        return untuple(json.load(file))


def test_bases_exist():
    lost = [f'{n}: {b}' for n in FILES for b in bases_of(CONFIGS / n) if not (CONFIGS / n).parent.joinpath(b).is_file()]
    assert not lost


@pytest.mark.parametrize('family', FAMILIES)
def test_loads(family):
    for name in family_files(family):
        config = resolve(name)
        assert config, f'{name} sets nothing'
        for key in ('train_dataloader', 'val_dataloader'):
            if isinstance(config.get(key), dict):
                assert 'dataset' in config[key], f'{name}: {key} has no dataset'


@pytest.mark.parametrize('family', FAMILIES)
def test_resolves_as_the_reference(family, shared_dir):
    wanted = reference(shared_dir, family)
    found = {}
    for name in set(wanted) & set(FILES) - ON_PURPOSE:
        have, want = ({k: v[k] for k in KEYS if k in v} for v in (resolve(name), wanted[name]))
        found[name] = list(differences(have, want))
    assert not {name: diffs[:3] for name, diffs in found.items() if diffs}


@pytest.mark.parametrize('family', [f for f in FAMILIES if f not in ('_base_', 'common', 'quickstart')])
def test_readme_names_configs_that_exist(family):
    folder = CONFIGS / family
    text = (folder / 'README.md').read_text()
    assert text.startswith('# ')
    links = [link for link in re.findall(r'\]\(([^)#]+?)\)', text) if '://' not in link]
    assert not [link for link in links if not (folder / link).is_file()]


@pytest.mark.parametrize('family', [f for f in FAMILIES if f not in ('_base_', 'common', 'quickstart')])
def test_readme_tells_what_is_not_yet_in_this_package(family):
    absent = {}
    for name in family_files(family):
        if 'model' in resolve(name):
            absent[name.partition('/')[2]] = MARKS.absent_names(resolve(name))
    readme = (CONFIGS / family / 'README.md').read_text()
    wanted = MARKS.with_notice(readme, MARKS.notice(absent))
    assert readme == wanted, 'run python tools/misc/mark_configs.py'


@pytest.mark.parametrize(
    'absent, text',
    [
        ({'a.py': set()}, '# A\n\nIt is.\n\n## Configs\n'),
        ({'a.py': {'B'}}, f'# A\n\nIt is.\n\n{MARKS.START} all configs of this folder need `B`.\n\n## Configs\n'),
        (
            {'a.py': {'C', 'B'}, 'd/e.py': set()},
            f'# A\n\nIt is.\n\n{MARKS.START} `B`, `C`, needed by [a](a.py).\n\n## Configs\n',
        ),
    ],
)
def test_notice_comes_changes_and_goes(absent, text):
    for old in (
        '# A\n\nIt is.\n\n## Configs\n',
        f'# A\n\nIt is.\n\n{MARKS.START} `Old`, needed by [b](b.py).\n\n## Configs\n',
    ):
        assert MARKS.with_notice(old, MARKS.notice(absent)) == text


# Mistakes of the reference's configs that ours share; the README of the family says so.
MISTAKES = {'v3det/fcos_swinb_fpn_8x4_sample1e-3_mstrain_v3det_2x.py': "FPN has no argument 'force_grad_on_level'"}
# Keys of 2.x that a config of the reference has beside those of 3.x, and which nothing reads
OF_2X = {
    'guided_anchoring/ga-fast-rcnn_r50-caffe_fpn_1x_coco.py': ('error: data: is no section', 'error: optimizer_config:')
}
BUILT = set()  # models that several configs share


def build_as_promised(name, request):
    """A config builds, on no device, and the check before training has nothing against it, unless it is marked."""
    import torch

    from mmdet.checks.config_check import check_config
    from mmdet.registry import MODELS

    config = Config(resolve(name))
    errors = [str(finding) for finding in check_config(config) if finding.level == 'error' and finding.stops]
    if MARKS.absent_names(resolve(name)):
        assert any('is part of MMDetection 3.x but not yet in this package' in error for error in errors)
        return
    elsewhere = [error for error in errors if 'must be installed, and its module named' in error]
    if name in MISTAKES:
        assert len(errors) == 1 and MISTAKES[name] in errors[0]
        return
    errors = [error for error in errors if not error.startswith(OF_2X.get(name, ()))]
    assert errors == elsewhere
    key = repr({key: value for key, value in resolve(name)['model'].items() if key != 'data_preprocessor'})
    if elsewhere or key in BUILT:
        return
    BUILT.add(key)
    model_cfg = config.model
    if 'language_model' in model_cfg:
        model_cfg = Config(with_language_model(model_cfg.to_dict(), request.getfixturevalue('tiny_bert')))
    try:
        with torch.device('meta'):
            model = MODELS.build(model_cfg)
            if 'tta_model' in config:
                MODELS.build(dict(config.tta_model, module=model))
    except ImportError as error:  # an optional package
        assert 'mmdet' not in str(error)
    else:
        assert sum(parameter.numel() for parameter in model.parameters()) > 1e4


# config -> what the check before training has against it, and why it stays
ERRORS_THAT_STAY = {
    **{name: (text, 'a mistake that the reference has too') for name, text in MISTAKES.items()},
    'guided_anchoring/ga-fast-rcnn_r50-caffe_fpn_1x_coco.py': (
        'dataset: has no type',
        'the reference changes the data by keys of 2.x, under which its base file has nothing',
    ),
    'strongsort/yolox_x_8xb4-80e_crowdhuman-mot20train_test-mot20test.py': (
        'test_pipeline: is set in',
        'the reference sets the variable after its base has used it; its size stays that of the base',
    ),
    'bytetrack/bytetrack_yolox_x_8xb4-amp-80e_crowdhuman-mot20train_test-mot20test.py': (
        ': is set in|MOTChallengeMetrics',
        'the reference names a metric that it does not have, and sets test_pipeline too late',
    ),
    'bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot20train_test-mot20test.py': (
        'MOTChallengeMetrics',
        'the reference names a metric that it does not have',
    ),
    **{
        f'mm_grounding_dino/{name}.py': (
            ': is set in',
            'tests other data than its base trains on, in variables of one name',
        )
        for name in (
            'dod/grounding_dino_swin-t_pretrain_zeroshot_concat_dod',
            'flickr30k/grounding_dino_swin-t-pretrain_flickr30k',
            'grounding_dino_swin-t_pretrain_pseudo-labeling_flickr30k',
            'lvis/grounding_dino_swin-t_pretrain_zeroshot_lvis',
        )
    },
}
# In every error of a config that needs what is not here
ELSEWHERE = {
    'is part of MMDetection 3.x but not yet in this package': 'the README of the family names the class',
    'mmpretrain must be installed': 'the backbone is from that package',
}


@pytest.mark.parametrize('family', [family for family in FAMILIES if family != '_base_'])
def test_the_check_has_nothing_against_shipped_configs(family):
    from mmdet.checks.config_check import check_config
    from mmdet.config import load_config

    for name in family_files(family):
        if name.startswith('rtmdet/classification/'):
            continue  # configs of mmpretrain, in its scope
        findings = check_config(load_config(CONFIGS / name), CONFIGS / name)
        errors = [str(finding) for finding in findings if finding.level == 'error']
        errors = [error for error in errors if not any(reason in error for reason in ELSEWHERE)]
        text, _ = ERRORS_THAT_STAY.get(name, ('', ''))
        assert bool(errors) == bool(text), errors
        assert all(re.search(text, error) for error in errors), errors


@pytest.mark.parametrize('family', FAMILIES_WITH_MODELS)
def test_first_config_of_a_family_builds(family, default_scope, request):
    build_as_promised(whole(family)[0], request)


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES_WITH_MODELS)
def test_all_configs_of_a_family_build(family, default_scope, request):
    for name in whole(family):
        build_as_promised(name, request)

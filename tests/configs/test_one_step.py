"""Every config that can be built loads its own state dict, learns from a random batch, and predicts."""

import json
import re

import pytest
from config_files import CONFIGS, FAMILIES_WITH_MODELS, MARKS, resolve, whole
from one_step import one_step, parts, reads, small_model, with_language_model

from mmdet.errors import UserImportError

MEASURED = json.loads((CONFIGS.parent / 'docs' / 'catalogue.json').read_text())['measured']
# pattern of configs -> why they are left out
EXEMPT = {
    r'misc/d2_.*': 'detectors of another package, tested with a stand-in for it',
    r'rtmdet/classification/.*': 'classifiers of mmpretrain',
    r'v3det/fcos_swinb_.*': 'names an argument that does not exist, as the reference does',
}
# pattern of configs -> beginnings of the names of parameters that lead nowhere, as in the reference
UNUSED = {r'(yolo/yolov3|retinaface/retinaface)_mobilenetv2_.*': ('backbone.conv2.',)}  # the last layer of a classifier


def why_not(name):
    """Why a config is left out, or None."""
    absent = MARKS.absent_names(resolve(name)['model'])
    if absent:
        return f'{", ".join(sorted(absent))} not yet in this package'
    model = resolve(name)['model']
    if reads(model) and not (model.get('train_cfg') and 'loss_bbox' in model['bbox_head']):
        return 'it only predicts, and names no assigner or no losses'
    scopes = {str(part.get('type')).partition('.')[0] for part in parts(resolve(name)['model'])} & {
        'mmcls',
        'mmpretrain',
    }
    if scopes and name not in MEASURED:
        return f'a part is from {scopes.pop()}'
    return next((reason for pattern, reason in EXEMPT.items() if re.fullmatch(pattern, name)), None)


def smallest(family):
    """The config of a family with the fewest parameters, of those that are tested; None where there is none."""
    sizes = {name: MEASURED.get(name, [10**12])[0] for name in whole(family)}
    return next((name for name in sorted(sizes, key=sizes.get) if why_not(name) is None), None)


def run(name, request):
    request.getfixturevalue('monkeypatch').chdir(CONFIGS.parent)  # from where paths of teachers count
    model = resolve(name)['model']
    if reads(model):
        model = with_language_model(model, request.getfixturevalue('tiny_bert'))
    try:
        unused = next((names for pattern, names in UNUSED.items() if re.fullmatch(pattern, name)), ())
        return one_step(model, unused)
    except UserImportError as error:  # of an optional package
        pytest.skip(str(error))


@pytest.mark.parametrize('family', FAMILIES_WITH_MODELS)
def test_smallest_config_of_a_family(family, default_scope, request):
    name = smallest(family)
    if name is None:
        pytest.skip('; '.join(sorted({why_not(name) for name in whole(family)})))
    assert not run(name, request), name


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES_WITH_MODELS)
def test_all_configs_of_a_family(family, default_scope, request):
    problems, seen = {}, set()
    for name in whole(family):
        model = small_model(resolve(name)['model'])
        model.pop('data_preprocessor', None)
        if why_not(name) is None and repr(model) not in seen:
            seen.add(repr(model))
            problems[name] = run(name, request)
    assert not {name: found for name, found in problems.items() if found}

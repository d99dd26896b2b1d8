"""Every public name of MMDetection 3.3 whose feature exists here exists under the same path, with the same arguments.

``data/names_3.3.json`` holds module -> name -> signature, '' where there is none or where a package only passes the
name on; ``data/methods_3.3.json`` holds module:class -> method -> names of its arguments, and
``data/method_defaults_3.3.json`` -> method -> argument -> default. What is absent stands in one
of the lists below, and must be taken off it when it comes.
"""

import ast
import importlib
import inspect
import json
import math
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdet.registry import argument_names

NAMES = json.loads((Path(__file__).parent / 'data' / 'names_3.3.json').read_text())
METHOD_DEFAULTS = json.loads((Path(__file__).parent / 'data' / 'method_defaults_3.3.json').read_text())
METHODS = json.loads((Path(__file__).parent / 'data' / 'methods_3.3.json').read_text())

# family -> package -> its modules of 3.x that are still to come; module:Name is one name of a module
TO_COME = {
    'video: tracking, video segmentation, re-identification': {
        'mmdet.apis': 'inference:inference_mot inference:init_track_model',
        'mmdet.datasets': 'base_video_dataset mot_challenge_dataset reid_dataset youtube_vis_dataset',
        'mmdet.datasets.samplers': 'track_img_sampler batch_sampler:TrackAspectRatioBatchSampler',
        'mmdet.datasets.transforms': (
            'frame_sampling formatting:PackReIDInputs formatting:PackTrackInputs loading:LoadTrackAnnotations'
        ),
        'mmdet.engine.hooks': 'visualization_hook:TrackVisualizationHook',
        'mmdet.evaluation.functional': 'ytvis ytviseval',
        'mmdet.evaluation.metrics': (
            'base_video_metric coco_video_metric mot_challenge_metric reid_metric youtube_vis_metric'
        ),
        'mmdet.models': 'mot* reid* trackers* tracking_heads* vis* task_modules.tracking*',
        'mmdet.models.data_preprocessors': 'reid_data_preprocessor track_data_preprocessor',
        'mmdet.structures': 'reid_data_sample',
        'mmdet.utils': 'mot_error_visualize',
        'mmdet.visualization': 'local_visualizer:TrackLocalVisualizer local_visualizer:random_color',
    },
}
# reason -> as above: what stays absent
LEFT_OUT = {
    'class names that the data sets read from the annotation file': {
        'mmdet.evaluation.functional.class_names': (
            ':lvis_classes :objects365v1_classes :objects365v2_classes :oid_challenge_classes :oid_v6_classes '
            ':imagenet_det_classes'
        ),
    },
    '3.x lists the name and defines it nowhere': {'mmdet.testing': ':VideoDataSampleFeeder'},
    'test-time augmentation of 2.x, which 3.x itself no longer calls': {
        'mmdet.models': 'dense_heads.dense_test_mixins roi_heads.test_mixins'
    },
    'parts of one class or function, cut differently here': {
        'mmdet.datasets.transforms': 'transforms:imrescale transforms:rescale_size',
        'mmdet.evaluation.functional.cityscapes_utils': (
            ':getGtInstances :instances2dict :matchGtWithPreds :readGTImage :readPredInfo'
        ),
        'mmdet.models.backbones': (
            'efficientnet:EdgeResidual efficientnet:model_scaling res2net:Res2Layer resnest:RSoftmax '
            'trident_resnet:make_trident_res_layer'
        ),
        'mmdet.models.losses': 'ae_loss:ae_loss_per_image gfocal_loss:quality_focal_loss_*',
        'mmdet.models.necks': 'fpg:Transition',
        'mmdet.models.task_modules.assigners': (
            'center_region_assigner:bboxes_area center_region_assigner:is_located_in '
            'max_iou_assigner:perm_repeat_bboxes region_assigner:anchor_ctr_inside_region_flags '
            'region_assigner:calc_region'
        ),
        'mmdet.structures.bbox': 'bbox_overlaps:fp16_clamp',
    },
    'a second home of a name, which has one': {
        'mmdet.models': 'backbones.ssd_vgg:L2Norm task_modules.samplers.sampling_result:random_boxes',
    },
    'parts of a layer of BERT, which is one class here': {
        'mmdet.models.utils.vlfuse_helper': ':BertAttention :BertIntermediate :BertOutput :BertSelfAttention',
    },
    'export to ONNX, which torch does from the plain function': {
        'mmdet.models.task_modules.coders': 'delta_xywh_bbox_coder:onnx_delta2bbox'
    },
}


def _on_purpose() -> dict[str, set[str]]:
    """``module:name`` or ``module:Class.method`` -> its arguments that differ; docs/migration.md says why."""
    text = (Path(__file__).parents[1] / 'docs' / 'migration.md').read_text()
    table = text.partition('<!-- defaults: begin -->')[2].partition('<!-- defaults: end -->')[0]
    rows = [[cell.strip() for cell in line.strip('| ').split('|')] for line in table.strip().splitlines()[2:]]
    assert all(len(row) == 3 and row[2] for row in rows), 'each difference has its reason'
    return {where.strip('`'): set(arguments.replace('`', '').split()) for where, arguments, _ in rows}


OTHER_ARGUMENTS = _on_purpose()


class Endless:
    """What 3.x writes as INF: 1e8 in heads, 1e9 in schedules."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float)) and other >= 1e8

    __hash__ = None


GENERIC = {'INF': Endless(), 'math': math, 'torch': torch, 'np': np, 'nn': torch.nn, 'dict': dict, 'Ellipsis': ...}


def matches(entry: str, module: str, name: str) -> bool:
    where, _, what = entry.partition(':')
    return fnmatchcase(module, where) and fnmatchcase(name, what or '*')


def entries(table: dict) -> list[str]:
    return [
        f'{package}{word}' if word.startswith(':') else f'{package}.{word}'
        for packages in table.values()
        for package, words in packages.items()
        for word in words.split()
    ]


LISTED = entries(TO_COME) + entries(LEFT_OUT)


@cache
def found(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def homes(module: str, name: str) -> list[str]:
    """Where 3.x defines what ``module`` has as ``name``: in it, or in a module below it."""
    below = [other for other, names in NAMES.items() if other.startswith(f'{module}.') and names.get(name)]
    below += [other for other, names in NAMES.items() if other.startswith(f'{module}.') and name in names]
    return [module, *below] if NAMES[module][name] or not below else below


def test_no_public_name_is_absent():
    absent = [
        f'{module}:{name}'
        for module, names in NAMES.items()
        for name in names
        if not found(module, name)
        and not any(matches(entry, home, name) for home in homes(module, name) for entry in LISTED)
    ]
    assert not absent, f'{len(absent)} names of MMDetection 3.x are absent: {absent}'


@pytest.mark.parametrize('entry', LISTED)
def test_what_has_come_is_taken_off_the_list(entry):
    named = [(module, name) for module, names in NAMES.items() for name in names if matches(entry, module, name)]
    come = [f'{module}:{name}' for module, name in named if found(module, name)]
    assert named, f'{entry} names nothing that MMDetection 3.x has'
    assert not come, f'{come} has come: take it off the lists of this test'


class Lookup(dict):
    """Names that stand in a default: a few, and those of the module."""

    def __init__(self, module: str) -> None:
        super().__init__(GENERIC)
        self.module = importlib.import_module(module)

    def __missing__(self, name: str) -> object:
        return getattr(self.module, name)


def parameters(obj: object) -> dict[str, inspect.Parameter]:
    """Those of a function or constructor, with those that ``**kwargs`` hands to base classes."""
    if not inspect.isclass(obj):
        return dict(inspect.signature(obj).parameters)
    known: dict[str, inspect.Parameter] = {}
    for base in obj.__mro__:
        if '__init__' in base.__dict__ and base is not object:
            for name, parameter in list(inspect.signature(base.__init__).parameters.items())[1:]:
                known.setdefault(name, parameter)
    names = argument_names(obj)
    return {name: parameter for name, parameter in known.items() if name in names or name in ('args', 'kwargs')}


def same(a: object, b: object) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def differences(module: str, name: str, signature: str) -> list[str]:
    """Names of arguments that ours lacks, demands, gives another default, or takes in another place."""
    arguments = ast.parse(f'def f{signature}: ...').body[0].args
    order = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    defaults = dict(zip(reversed(order), map(ast.unparse, reversed(arguments.defaults)), strict=False))
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    defaults.update({argument.arg: ast.unparse(value) for argument, value in keywords if value})
    own = parameters(getattr(importlib.import_module(module), name))
    places = [key for key, parameter in own.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    wrong = [key for key in (*order, *(argument.arg for argument in arguments.kwonlyargs)) if key not in own]
    for key, text in defaults.items():
        default = own[key].default if key in own else None
        if key in own and not same(eval(text, {}, Lookup(module)), default):
            wrong.append(key)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        wrong += [theirs for theirs, ours in zip(order, places, strict=False) if theirs != ours and theirs in own]
    return wrong


SIGNATURES = [
    (module, name, signature) for module, names in NAMES.items() for name, signature in names.items() if signature
]


def test_arguments_are_those_of_3x():
    wrong = {}
    for module, name, signature in SIGNATURES:
        if found(module, name):
            allowed = OTHER_ARGUMENTS.get(f'{module}:{name}', ())
            names = [key for key in differences(module, name, signature) if key not in allowed]
            if names:
                wrong[f'{module}:{name}'] = names
    assert not wrong


def other_defaults_of_methods() -> dict[str, set[str]]:
    """Arguments of public methods that ours lacks, or gives another default."""
    wrong: dict[str, set[str]] = {}
    for path, theirs in METHOD_DEFAULTS.items():
        module, _, name = path.partition(':')
        for method, defaults in theirs.items() if found(module, name) else ():
            cls = getattr(importlib.import_module(module), name)
            function = inspect.getattr_static(cls, method, None)
            function = getattr(function, '__func__', function)
            if method.startswith('_') or not callable(function) or isinstance(function, type):
                continue  # or one of the methods that stay absent
            ours = inspect.signature(inspect.unwrap(function)).parameters
            takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values())
            for key, text in defaults.items():
                equal = key in ours and same(eval(text, {}, Lookup(module)), ours[key].default)
                if not equal and (key in ours or not takes_all):
                    wrong.setdefault(f'{path}.{method}', set()).add(key)
    return wrong


def test_defaults_of_methods_are_those_of_3x():
    meant = {path: keys for path, keys in OTHER_ARGUMENTS.items() if '.' in path.partition(':')[2]}
    assert other_defaults_of_methods() == meant, 'what differs on purpose stands in docs/migration.md'


@pytest.mark.parametrize('entry', [path for path in OTHER_ARGUMENTS if '.' not in path.partition(':')[2]])
def test_arguments_that_differ_on_purpose_do_differ(entry):
    module, _, name = entry.partition(':')
    assert OTHER_ARGUMENTS[entry] <= set(differences(module, name, NAMES[module][name]))


@pytest.mark.parametrize(
    ('path', 'signature', 'wrong'),
    [
        ('mmdet.evaluation.metrics.voc_metric:VOCMetric', "(eval_mode='area')", True),
        ('mmdet.evaluation.metrics.voc_metric:VOCMetric', "(*, eval_mode='11points')", False),
        ('mmdet.models.losses.focal_loss:FocalLoss', '(*, gamma=2.5)', True),
        ('mmdet.models.losses.focal_loss:FocalLoss', '(*, own=1)', True),
    ],
)
def test_another_default_is_seen(path, signature, wrong):
    assert bool(differences(*path.split(':'), signature)) == wrong


def test_the_data_is_that_of_the_facts(shared_dir):
    """What the tests compare with, against the whole record of 3.3."""
    facts = json.loads((shared_dir / 'facts' / 'names_3.3.json').read_text())
    classes = constructors = 0
    for module, names in facts.items():
        for name, entry in names.items():
            if not isinstance(entry, dict):
                continue
            given = entry.get('init') or entry.get('function')
            if given is not None and all(len(argument) > 1 for argument in given if not argument[0].startswith('*')):
                classes += 1
            for argument in given or ():
                if len(argument) > 1:
                    constructors += 1
                    assert f'{argument[0]}={argument[1]}' in NAMES[module][name], f'{module}:{name}'
            for method, arguments in entry.get('methods', {}).items():
                theirs = {argument[0]: argument[1] for argument in arguments if len(argument) > 1}
                kept = METHOD_DEFAULTS.get(f'{module}:{name}', {}).get(method, {})
                assert {key: text for key, text in theirs.items() if text != 'Tuple[Tensor]'} == kept
    assert constructors > 1000 and classes > 100


# reason -> class -> its methods of 3.x that stay absent
METHODS_LEFT_OUT = {
    'part of a constructor or method that is cut differently here': {
        'EfficientNet': 'make_layer',
        'HRModule': '_check_branches _make_branches _make_one_branch',
        'HRNet': '_make_layer',
        'Bottleneck': '_del_block_plugins',
        'CTResNetNeck': '_make_deconv_layer',
        'FPG': 'fuse',
        'FPN_CARAFE': 'slice_as tensor_add',
        'DoubleConvFCBBoxHead': '_add_conv_branch _add_fc_branch',
        'Albu': '_preprocess_results _postprocess_results',
        'IoUBalancedNegSampler': 'sample_via_interval',
    },
    'sizes are drawn from the number of the iteration, without a word of the other processes': {
        'BatchSyncRandomResize': '_get_random_size'
    },
    'each image is counted when it is predicted, from no file': {
        'CrowdHumanMetric': 'load_eval_samples',
        'CocoPanopticMetric': (
            '_compute_batch_pq_stats _parse_predictions _process_gt_and_predictions gt_to_coco_json result2json'
        ),
    },
    'one process evaluates all classes': {'COCOevalMP': '_evaluateImg'},
    'for versions of mmcv that the package does not take': {'SpatialReductionAttention': 'legacy_forward'},
    'test-time augmentation of 2.x, which 3.x itself no longer calls': {
        'AnchorFreeHead': 'aug_test',
        'BaseDenseHead': 'aug_test',
        'TridentFasterRCNN': 'aug_test',
    },
}
# class.method -> why its arguments are named otherwise
OTHER_METHOD_ARGUMENTS = {
    'HRNet._make_transition_layer': 'private to the constructor',
    'RegNet._make_stem_layer': 'the argument of ResNet',
    'SSDVGG.init_weights': 'mmengine calls it without arguments',
    'AdaptiveAvgPool2d.forward': "the argument of torch's class",
    'CrowdHumanMetric.compute_ji_with_ignore': 'one process counts all pictures, so that there is no queue',
    'HybridTaskCascadeRoIHead._mask_forward': 'only the last stage is predicted',
    'OpenImagesChallengeDataset._parse_img_level_ann': 'one method for both data sets',
}


def methods():
    for path, found_methods in METHODS.items():
        module, _, name = path.partition(':')
        if found(module, name):
            cls = getattr(importlib.import_module(module), name)
            for method, arguments in found_methods.items():
                yield name, cls, method, arguments.split()


def test_no_method_is_absent():
    left_out = {
        f'{cls}.{method}'
        for classes in METHODS_LEFT_OUT.values()
        for cls, words in classes.items()
        for method in words.split()
    }
    absent = {
        f'{name}.{method}' for name, cls, method, _ in methods() if inspect.getattr_static(cls, method, None) is None
    }
    assert not absent - left_out, 'methods of MMDetection 3.x are absent'
    assert not left_out - absent, 'these have come: take them off the list of this test'


def test_arguments_of_methods_are_those_of_3x():
    wrong = {}
    for name, cls, method, theirs in methods():
        function = inspect.getattr_static(cls, method, None)
        function = getattr(function, '__func__', function)
        if not callable(function) or isinstance(function, type):
            continue
        ours = inspect.signature(inspect.unwrap(function)).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values()):
            continue
        names = [key for key in ours if key not in ('self', 'cls')]
        theirs = [key for key in theirs if not key.startswith('*')]
        if names[: len(theirs)] != theirs:
            wrong[f'{name}.{method}'] = f'{theirs}, not {names}'
    assert wrong.keys() - OTHER_METHOD_ARGUMENTS.keys() == set(), wrong
    assert OTHER_METHOD_ARGUMENTS.keys() - wrong.keys() == set()

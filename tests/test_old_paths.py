"""Imports from the paths that modules had in MMDetection 3.x, in 2.x and in the compiled mmcv."""

import importlib
import importlib.resources
import importlib.util
import subprocess
import sys

import pytest

from mmdet import old_paths

TABLE = old_paths.table()
LITE = importlib.util.find_spec('mmcv._ext') is None


@pytest.mark.parametrize('old', TABLE)
def test_a_merged_module_is_the_one_that_it_was_merged_in(old):
    new = importlib.import_module(TABLE[old])
    assert importlib.import_module(old) is new
    assert (new.__name__, new.__spec__.name) == (TABLE[old], TABLE[old])
    package, _, name = old.rpartition('.')
    exported = getattr(importlib.import_module(package), name)
    assert exported is new or name in importlib.import_module(package).__all__, 'an export of that name stays itself'


@pytest.mark.parametrize('old', [*TABLE, *old_paths.SPREAD])
def test_no_old_path_hides_a_file(old):
    file = importlib.resources.files('mmdet').joinpath(*old.split('.')[1:])
    assert not file.with_suffix('.py').exists() and not file.is_dir()


@pytest.mark.parametrize(
    'path, name',
    [
        ('mmdet.models.detectors.retinanet', 'RetinaNet'),
        ('mmdet.models.detectors.mask_rcnn', 'MaskRCNN'),
        ('mmdet.models.task_modules.assigners.point_assigner', 'PointAssigner'),
        ('mmdet.models.losses.margin_loss', 'MarginL2Loss'),
        ('mmdet.utils.replace_cfg_vals', 'replace_cfg_vals'),
        ('mmdet.utils.large_image', 'merge_results_by_nms'),
        ('mmdet.evaluation.functional.bbox_overlaps', 'bbox_overlaps'),
        ('mmdet.datasets.transforms.augment_wrappers', 'RandAugment'),
        # of 2.x
        ('mmdet.core', 'bbox2roi'),
        ('mmdet.core', 'multi_apply'),
        ('mmdet.core', 'build_assigner'),
        ('mmdet.core', 'BitmapMasks'),
        ('mmdet.core.bbox', 'bbox_overlaps'),
        ('mmdet.core.bbox.builder', 'BBOX_ASSIGNERS'),
        ('mmdet.core.evaluation', 'eval_map'),
        ('mmdet.core.post_processing', 'multiclass_nms'),
        ('mmdet.datasets.pipelines', 'RandomFlip'),
        ('mmdet.datasets.builder', 'PIPELINES'),
        ('mmdet.models.builder', 'build_loss'),
        ('mmdet.models', 'BACKBONES'),
    ],
)
def test_names_that_projects_import(path, name):
    namespace = {}
    exec(f'from {path} import {name}', namespace)
    assert namespace[name].__class__.__name__ != 'module'


def test_functions_stay_functions_when_a_module_of_their_name_is_imported():
    for package, name in (('mmdet.utils', 'replace_cfg_vals'), ('mmdet.evaluation.functional', 'bbox_overlaps')):
        importlib.import_module(f'{package}.{name}')
        assert callable(getattr(importlib.import_module(package), name))


def test_names_that_2x_had_alone():
    with pytest.raises(ImportError, match='DistEvalHook'):
        exec('from mmdet.core import DistEvalHook')
    assert not hasattr(importlib.import_module('mmdet.core'), 'DistEvalHook')
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('mmdet.core.fp16')


def test_registries_of_2x():
    from mmdet.datasets.builder import PIPELINES, build_dataset
    from mmdet.models.builder import HEADS, build_detector, build_loss
    from mmdet.registry import MODELS, TRANSFORMS

    assert HEADS is MODELS and PIPELINES is TRANSFORMS
    assert type(build_loss(dict(type='L1Loss'))).__name__ == 'L1Loss'
    with pytest.raises(KeyError, match='CocoDatset'):
        build_dataset(dict(type='CocoDatset'))

    class Probe:
        def __init__(self, depth, train_cfg='its own', test_cfg=None):
            self.arguments = depth, train_cfg, test_cfg

    assert build_detector(dict(type=Probe, depth=3), test_cfg=dict(a=1)).arguments == (3, 'its own', dict(a=1))


@pytest.mark.skipif(not LITE, reason='a compiled mmcv answers itself')
class TestOperatorsOfMmcv:
    @pytest.mark.parametrize('module', ['mmcv.ops', *(f'mmcv.ops.{name}' for name in old_paths.MMCV_OPS.split())])
    def test_modules(self, module):
        assert importlib.import_module(module).nms is importlib.import_module('mmdet.ops').nms

    def test_names(self):
        import torch
        from mmcv.ops import ModulatedDeformConv2dPack, RoIAlign, batched_nms, nms, point_sample  # noqa: F401
        from mmcv.ops.point_sample import SimpleRoIAlign
        from mmcv.ops.saconv import SAConv2d

        import mmdet.ops

        assert nms is mmdet.ops.nms and SimpleRoIAlign is mmdet.ops.SimpleRoIAlign and SAConv2d
        dets, keep = nms(torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5]]), torch.tensor([0.5, 0.9]), 0.5)
        assert keep.tolist() == [1] and dets.shape == (1, 5)
        assert RoIAlign(2, 1.0, 0)(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 4, 4]])).shape == (1, 1, 2, 2)

    def test_star(self):
        namespace = {}
        exec('from mmcv.ops import *', namespace)
        assert {'nms', 'RoIAlign', 'DeformConv2d'} <= set(namespace)

    @pytest.mark.parametrize(
        'statement', ['from mmcv.ops import Voxelization', 'import mmcv.ops.voxelize', 'from mmcv.ops.knn import knn']
    )
    def test_what_we_have_not(self, statement):
        with pytest.raises(ImportError, match=r"'mmcv\.ops\.(Voxelization|voxelize|knn)' is neither .* compiled mmcv"):
            exec(statement)
        ops = importlib.import_module('mmcv.ops')
        assert not hasattr(ops, 'Voxelization')

    def test_environment_is_still_reported(self):
        from mmcv.utils import collect_env

        assert collect_env()['MMCV Compiler'] == 'n/a'


def test_a_compiled_mmcv_answers_itself(tmp_path):
    """With an extension module in place, ``mmcv.ops`` is the file that is installed."""
    package = tmp_path / 'mmcv'
    (package / 'ops').mkdir(parents=True)
    for file, text in {'__init__.py': '', '_ext.py': '', 'ops/__init__.py': 'nms = "theirs"'}.items():
        (package / file).write_text(text)
    code = 'import mmdet, mmcv.ops; from mmcv.ops import nms; assert nms == "theirs", nms'
    path = f'{tmp_path}:{importlib.resources.files("mmdet").parent}'
    done = subprocess.run([sys.executable, '-c', code], env={'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_stays_light():
    code = (
        'import mmdet, sys; print(len([m for m in sys.modules if m.split(".")[0] == "mmdet"]), "torch" in sys.modules)'
    )
    path = str(importlib.resources.files('mmdet').parent)
    output = subprocess.run(
        [sys.executable, '-c', code], env={'PYTHONPATH': path}, capture_output=True, text=True
    ).stdout
    count, torch_is_loaded = output.split()
    assert int(count) < 12 and torch_is_loaded == 'False'

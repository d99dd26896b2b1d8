"""Data sets of semantic and panoptic maps, from files to packed samples."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmdet.datasets import (
    ADE20KInstanceDataset,
    ADE20KPanopticDataset,
    ADE20KSegDataset,
    BaseSegDataset,
    CocoPanopticDataset,
    CocoSegDataset,
    iSAIDDataset,
)
from mmdet.evaluation.functional.panoptic import id2rgb
from mmdet.registry import DATASETS, METRICS, argument_names

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=False, with_label=False, with_seg=True),
    dict(type='PackDetInputs'),
]
CLASSES = dict(classes=('road', 'grass', 'sky'))
FOLDERS = dict(img_path='img', seg_map_path='map')


@pytest.fixture
def folder(tmp_path, default_scope):
    """Two pictures of 8x6, one of them in a folder of its own, with maps of three classes and 255."""
    for name, value in (('b', 1), ('a/c', 2)):
        for kind, suffix, pixels in (
            ('img', '.jpg', np.full((6, 8, 3), 90, np.uint8)),
            ('map', '.png', np.array([[0, value, 255, value] * 2] * 6, np.uint8)),
        ):
            path = tmp_path / kind / f'{name}{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
    return tmp_path


def dataset(folder, cls=BaseSegDataset, load=LOAD, **more):
    return cls(**{**dict(data_root=str(folder), data_prefix=FOLDERS, metainfo=CLASSES, pipeline=load), **more})


def test_pictures_and_maps_of_two_folders(folder):
    data = dataset(folder)
    assert [info['img_path'].split('img/')[1] for info in map(data.get_data_info, range(2))] == ['a/c.jpg', 'b.jpg']
    sample = data[0]['data_samples']
    assert sample.gt_sem_seg.sem_seg.shape == (1, 6, 8)
    assert sample.gt_sem_seg.sem_seg[0, 0, :4].tolist() == [0, 2, 255, 2]
    assert sample.gt_sem_seg.ignore_index == 255
    assert len(data.metainfo['palette']) == 3 and data.metainfo['label_map'] is None
    assert len(dataset(folder, indices=1)) == 1
    assert data.report.read['pictures'] == data.report.used['pictures'] == 2
    raw = data.raw_annotations()
    assert raw.source.endswith('img') and len(raw.pictures) == 2 and not raw.with_boxes
    with pytest.raises(ValueError, match='has maps, no boxes'):
        data.get_cat_ids(0)


def test_a_list_of_names(folder):
    (folder / 'list.txt').write_text('b\n\n')
    data = dataset(folder, ann_file='list.txt')
    assert len(data) == 1 and data.get_data_info(0)['seg_map_path'] == str(folder / 'map' / 'b.png')
    with pytest.raises(FileNotFoundError, match=r"annotation file '.*lost\.txt' does not exist"):
        dataset(folder, ann_file='lost.txt')
    (folder / 'list.txt').write_text('b\nd\n')
    with pytest.raises(FileNotFoundError, match=r"1 of 2 semantic maps do not exist, such as '.*map/d\.png'"):
        dataset(folder, ann_file='list.txt')
    data = dataset(folder, ann_file='list.txt', load=LOAD[:1])  # which loads no map
    with pytest.raises(FileNotFoundError, match=r'1 of 2 pictures of .*img/d\.jpg'):
        data.require_pictures()


def test_folders_that_are_wrong(folder):
    with pytest.raises(ValueError, match=r"no picture whose name ends with img_suffix='\.jpeg'; it has 2 of '\.jpg'"):
        dataset(folder, img_suffix='.jpeg')
    with pytest.raises(FileNotFoundError, match=r"no folder '.*/images': look at data_root"):
        dataset(folder, data_prefix=dict(img_path='images'))
    with pytest.raises(FileNotFoundError, match=r"2 of 2 semantic maps .*nor is there a folder '.*maps/a'"):
        dataset(folder, data_prefix=dict(img_path='img', seg_map_path='maps'))
    (folder / 'empty').mkdir()
    with pytest.raises(ValueError, match='it has nothing'):
        dataset(folder, data_prefix=dict(img_path='empty'))
    with pytest.raises(ValueError, match=r'needs data_prefix=dict\(img_path'):
        dataset(folder, data_prefix=dict(img='img'))
    assert 'seg_map_path' not in dataset(folder, data_prefix=dict(img_path='img'), load=[]).get_data_info(0)


def test_labels_that_are_wrong(folder):
    data = dataset(folder, metainfo=dict(classes=('road', 'grass')))
    data[1]
    with pytest.raises(ValueError, match=r"map/a/c\.png' has the label 2 at x 1, y 0, but .* 2 classes.*reduce_zero"):
        data[0]
    counted = [LOAD[0], dict(LOAD[1], reduce_zero_label=True), LOAD[2]]
    sample = dataset(folder, metainfo=dict(classes=('road', 'grass')), load=counted)[0]['data_samples']
    assert sample.gt_sem_seg.sem_seg[0, 0, :4].tolist() == [255, 1, 255, 1]
    path = str(folder / 'map' / 'b.png')
    cv2.imwrite(path, np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"b\.png' has 3 channels.*imdecode_backend='pillow'"):
        dataset(folder)[1]
    picture = Image.fromarray(np.full((6, 8), 2, np.uint8))
    picture.putpalette([10, 20, 30] * 3)
    picture.save(path)
    by_pillow = [LOAD[0], dict(LOAD[1], imdecode_backend='pillow'), LOAD[2]]
    assert dataset(folder, load=by_pillow)[1]['data_samples'].gt_sem_seg.sem_seg.unique().tolist() == [2]
    cv2.imwrite(path, np.zeros((6, 9), np.uint8))
    with pytest.raises(ValueError, match=r"map/b\.png' is 9x6, but its picture .*b\.jpg' is 8x6"):
        dataset(folder)[1]


class Ground(BaseSegDataset):
    METAINFO = dict(classes=('road', 'grass', 'sky'), palette=[(1, 1, 1), (2, 2, 2), (3, 3, 3)])


def test_some_of_the_classes(folder):
    chosen = dict(classes=('sky', 'road'))
    data = dataset(folder, Ground, metainfo=chosen, use_label_map=True)
    assert data.metainfo['label_map'] == {0: 1, 1: 255, 2: 0} and data.metainfo['palette'] == [(3, 3, 3), (1, 1, 1)]
    seen = [data[i]['data_samples'].gt_sem_seg.sem_seg[0, 0, :4].tolist() for i in range(2)]
    assert seen == [[1, 0, 255, 0], [1, 255, 255, 255]]
    with pytest.raises(ValueError, match=r"'gras' is no class of Ground; did you mean grass"):
        dataset(folder, Ground, metainfo=dict(classes=('gras',)))
    with pytest.raises(ValueError, match='has 1 colours in its palette for 3 classes'):
        dataset(folder, metainfo=dict(CLASSES, palette=[(0, 0, 0)]))
    assert Ground.get_label_map(('road', 'grass', 'sky')) is None and BaseSegDataset.get_label_map(('x',)) is None


def test_maps_follow_their_pictures(folder):
    steps = [
        dict(type='Resize', scale=(16, 12)),
        dict(type='RandomFlip', prob=1.0),
        dict(type='RandomCrop', crop_size=(10, 12)),
        dict(type='Pad', size=(14, 15), pad_val=dict(img=0, seg=255)),
    ]
    sample = dataset(folder, load=[*LOAD[:2], *steps, LOAD[2]])[1]
    seg = sample['data_samples'].gt_sem_seg.sem_seg
    assert seg.shape[1:] == sample['inputs'].shape[1:] == (15, 14) or seg.shape[1:] == sample['inputs'].shape[1:]
    assert set(seg.unique().tolist()) == {0, 1, 255} and (seg[0, -1] == 255).all()
    half = [*LOAD[:2], dict(type='SegRescale', scale_factor=0.5), LOAD[2]]
    assert dataset(folder, load=half)[1]['data_samples'].gt_sem_seg.sem_seg.shape == (1, 3, 4)


def test_classes_of_the_public_data_sets():
    panoptic, seg = ADE20KPanopticDataset.METAINFO, ADE20KSegDataset.METAINFO
    assert [len(panoptic[key]) for key in ('classes', 'thing_classes', 'stuff_classes', 'palette')] == [
        150,
        100,
        50,
        150,
    ]
    assert len(set(panoptic['classes'])) == len(set(seg['classes'])) == 150
    assert panoptic['classes'][:2] == ('bed', 'window') and panoptic['classes'][100:102] == ('wall', 'building')
    assert seg['classes'][:4] == ('wall', 'building', 'sky', 'floor') and seg['palette'][:2] == [
        (120, 120, 120),
        (180, 120, 120),
    ]
    assert panoptic['palette'][100] == seg['palette'][0] and panoptic['palette'][0] == seg['palette'][7]
    assert ADE20KInstanceDataset.METAINFO['classes'][1] == 'windowpane'
    assert len(ADE20KInstanceDataset.METAINFO['classes']) == len(ADE20KInstanceDataset.METAINFO['palette']) == 100
    coco = CocoSegDataset.METAINFO
    assert len(coco['classes']) == len(coco['palette']) == len(set(coco['classes'])) == 171
    assert len(iSAIDDataset.METAINFO['classes']) == len(iSAIDDataset.METAINFO['palette']) == 16


def test_words_for_models_that_read_them(folder):
    data = dataset(folder, CocoSegDataset, metainfo=None, return_classes=True)
    assert data.get_data_info(0)['text'][:2] == ('person', 'bicycle')


@pytest.fixture
def panoptic(tmp_path, default_scope):
    """A picture with a cat (id 70000), a crowd of cats and grass; the last column is void."""
    ids = np.array([[70000, 70000, 8, 9, 9, 0]] * 4)
    cv2.imwrite(str(tmp_path / 'a.png'), id2rgb(ids)[..., ::-1])
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.full((4, 6, 3), 90, np.uint8))
    boxes = {70000: [0, 0, 2, 4], 8: [2, 0, 1, 4], 9: [3, 0, 2, 4]}
    segments = [
        dict(id=i, category_id=c, bbox=boxes[i], area=4 * boxes[i][2], iscrowd=crowd)
        for i, c, crowd in ((70000, 5, 0), (8, 5, 1), (9, 7, 0))
    ]
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=6, height=4)],
        annotations=[dict(image_id=1, file_name='a.png', segments_info=segments)],
        categories=[dict(id=5, name='cat', isthing=1), dict(id=7, name='grass', isthing=0)],
    )
    (tmp_path / 'ann.json').write_text(json.dumps(content))
    return tmp_path


def panoptic_sample(folder, classes=('cat', 'grass'), steps=()):
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadPanopticAnnotations'),
        *steps,
        dict(type='PackDetInputs'),
    ]
    return CocoPanopticDataset(
        ann_file='ann.json',
        data_root=str(folder),
        data_prefix=dict(img='', seg=''),
        metainfo=dict(classes=classes, thing_classes=('cat',), stuff_classes=('grass',)),
        pipeline=pipeline,
    )[0]['data_samples']


def test_a_panoptic_picture(panoptic):
    sample = panoptic_sample(panoptic)
    assert sample.gt_sem_seg.sem_seg[0, 0].tolist() == [0, 0, 0, 1, 1, 255]
    assert sample.gt_instances.labels.tolist() == [0] and sample.gt_instances.masks.to_ndarray().sum() == 8
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[2, 0, 3, 4]]
    assert panoptic_sample(panoptic, ('grass',)).gt_sem_seg.sem_seg[0, 0].tolist() == [255, 255, 255, 0, 0, 255]
    flipped = panoptic_sample(panoptic, steps=[dict(type='RandomFlip', prob=1.0)])
    assert flipped.gt_sem_seg.sem_seg[0, 0].tolist() == [255, 1, 1, 0, 0, 0]


def test_a_panoptic_map_of_another_picture(panoptic, caplog):
    cv2.imwrite(str(panoptic / 'a.png'), id2rgb(np.full((4, 6), 3))[..., ::-1])
    with pytest.raises(ValueError, match=r"a\.png' has no pixel of segment 8, .*nor of the others: it has 3\."):
        panoptic_sample(panoptic)
    cv2.imwrite(str(panoptic / 'a.png'), id2rgb(np.full((4, 6), 9))[..., ::-1])
    assert panoptic_sample(panoptic).gt_sem_seg.sem_seg.unique().tolist() == [1]
    cv2.imwrite(str(panoptic / 'a.png'), id2rgb(np.full((4, 7), 9))[..., ::-1])
    with pytest.raises(ValueError, match=r"a\.png' is 7x4, but its picture .*a\.jpg' is 6x4"):
        panoptic_sample(panoptic)


CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'


@pytest.mark.parametrize(
    'name', ['ade20k_instance', 'ade20k_panoptic', 'ade20k_semantic', 'coco_semantic', 'isaid_instance']
)
def test_configs_of_data_sets_name_what_there_is(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader is not None:
            data = DATASETS.build(dict(loader.dataset, lazy_init=True))
            assert data.metainfo['classes'] and data.pipeline.transforms
    metric = METRICS.get(cfg.val_evaluator.type)
    assert set(cfg.val_evaluator) - {'type'} <= argument_names(metric)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize(
    'name',
    [
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco',
        'panoptic_fpn/panoptic-fpn_r50_fpn_ms-3x_coco',
        'maskformer/maskformer_r50_ms-16xb1-75e_coco',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic',
    ],
)
def test_pipelines_of_panoptic_configs(panoptic, name, split):
    pipeline = Config.fromfile(CONFIGS.parents[1] / f'{name}.py')[f'{split}_dataloader'].dataset.pipeline
    steps = [step for step in pipeline if 'Load' not in step.type and step.type != 'PackDetInputs']
    sample = panoptic_sample(panoptic, steps=steps)
    assert sample.gt_sem_seg.sem_seg.shape[1:] == sample.img_shape
    assert sample.gt_instances.masks.to_ndarray().shape[1:] == sample.img_shape
    covered = sample.gt_instances.masks.to_ndarray().astype(bool).any(0)
    assert (sample.gt_sem_seg.sem_seg[0].numpy()[covered] == 0).mean() > 0.99

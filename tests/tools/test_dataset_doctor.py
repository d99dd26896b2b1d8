"""Every mistake that the doctor looks for, planted in a tiny dataset."""

import json
import os
from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from torch.utils.data import DataLoader

from mmdet.checks import as_html, as_json, as_text, examine, polygon_problem
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadImageFromFile
from mmdet.registry import DATASETS, TRANSFORMS


def write(folder, images, annotations, name='train.json', categories=('a', 'b')):
    content = dict(
        images=[dict(id=i, file_name=f, width=w, height=h) for i, (f, w, h) in enumerate(images)],
        annotations=[dict(id=i) | annotation for i, annotation in enumerate(annotations, 1)],
        categories=[dict(id=i, name=c) for i, c in enumerate(categories)],
    )
    (folder / name).write_text(json.dumps(content))


def picture(folder, name, width=100, height=80, seed=0):
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / name), image)


def config(folder, **val):
    dataset = dict(type='CocoDataset', data_root=str(folder), ann_file='train.json', data_prefix=dict(img=''))
    dataset['metainfo'] = dict(classes=('a', 'b'))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(50, 40), keep_ratio=True)]
    cfg = dict(train_dataloader=dict(dataset=dict(dataset, pipeline=pipeline)))
    if val:
        cfg['val_dataloader'] = dict(dataset=dict(dataset, test_mode=True, **val))
    return Config(cfg, format_python_code=False)


def box(image, *xywh, category=0, **more):
    return dict(image_id=image, category_id=category, bbox=list(xywh), area=xywh[2] * xywh[3]) | more


def found(diagnosis):
    return Counter(problem.kind for problem in diagnosis.problems)


GOOD = [box(0, 10, 10, 20, 20), box(0, 30, 30, 20, 20, category=1)]


def test_sound_dataset(tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    diagnosis = examine(config(tmp_path))
    assert not diagnosis.problems and not diagnosis.has_errors
    assert as_text(diagnosis).endswith('nothing found')


@pytest.mark.parametrize(
    ('annotations', 'kind', 'words'),
    [
        ([box(0, 10, 10, 0, 20)], 'degenerate box', 'a at x 10 to 10, y 10 to 30 has no area'),
        ([box(0, 10, 10, float('nan'), 20)], 'unreadable annotation', 'annotation 3 has the box [10, 10, nan, 20]'),
        ([box(0, 120, 10, 20, 20)], 'box outside', 'lies outside of the 100x80 image'),
        ([box(0, 90, 10, 20, 20)], 'box across the border', 'x 90 to 110'),
        ([GOOD[0]], 'duplicate box', 'is annotation 1 again'),
        ([box(7, 1, 1, 5, 5)], 'orphan image id', 'annotation 3 belongs to image 7'),
        ([box(0, 1, 1, 5, 5, category=9)], 'orphan category id', 'annotation 3 has category 9'),
        ([box(0, 1, 1, 5, 5, id=1)], 'repeated annotation id', 'annotation 1 comes twice'),
        ([box(0, 1, 1, 5, 5, id=0)], 'annotation id 0', "tools take this id for 'not matched'"),
        ([dict(image_id=0, category_id=0)], 'unreadable annotation', "annotation 3 has no key 'bbox'"),
        ([box(0, 1, 1, 9, 9, segmentation=[[1, 2, 3]])], 'polygon with half a point', 'has the mask [[1, 2, 3]]'),
        ([box(0, 1, 1, 9, 9, segmentation=[[1, 2, 3, 4, 2e8, 6]])], 'unreadable polygon', 'the coordinate 200000000.0'),
        ([box(0, 1, 1, 9, 9, area=0)], 'area computed', 'annotation 3 has the area 0, computed'),
        ([box(0, 1, 1, 1.5, 9)], 'lost by resizing', 'a is 0.8x4.5 after resizing'),
    ],
)
def test_mistakes_in_annotations(annotations, kind, words, tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD + annotations)
    diagnosis = examine(config(tmp_path))
    problems = [p for p in diagnosis.problems if p.kind == kind]
    assert len(problems) == 1 and words in problems[0].detail
    assert f'{kind}: 1' in as_text(diagnosis) and kind in as_html(diagnosis)
    assert json.loads(as_json(diagnosis))['problems']


def test_mistakes_in_images(tmp_path):
    picture(tmp_path, 'size.jpg')
    picture(tmp_path, 'cut.jpg', seed=1)
    data = (tmp_path / 'cut.jpg').read_bytes()
    (tmp_path / 'cut.jpg').write_bytes(data[: len(data) // 2])
    (tmp_path / 'empty.jpg').write_bytes(b'nonsense')
    names = ('size.jpg', 'cut.jpg', 'empty.jpg', 'missing.jpg')
    write(tmp_path, [(name, 90 if name == 'size.jpg' else 100, 80) for name in names], GOOD)
    diagnosis = examine(config(tmp_path))
    assert found(diagnosis) == {'wrong size': 1, 'corrupt image': 2, 'missing image': 1}
    assert diagnosis.has_errors
    assert 'the annotation says 90x80, the image is 100x80' in as_text(diagnosis)


def test_corners_written_as_width_and_height(tmp_path):
    picture(tmp_path, 'a.jpg')
    corners = [box(0, 60 - i, 50 - i, 99, 79, category=i % 2) for i in range(6)]
    write(tmp_path, [('a.jpg', 100, 80)], corners)
    diagnosis = examine(config(tmp_path))
    assert found(diagnosis) == {'xyxy as xywh': 1}
    assert '6 of 6 boxes leave their image' in as_text(diagnosis)


def test_splits_that_share_a_picture_and_classes(tmp_path):
    picture(tmp_path, 'a.jpg')
    (tmp_path / 'copy.jpg').write_bytes((tmp_path / 'a.jpg').read_bytes())
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    annotations = [box(0, 1, 1, 9, 9), box(0, 1, 20, 9, 9, category=1)]
    write(tmp_path, [('copy.jpg', 100, 80)], annotations, 'val.json', ('a', 'other'))
    diagnosis = examine(config(tmp_path, ann_file='val.json'))
    kinds = ('same picture in two splits', 'class without boxes', 'unknown class', 'unusable data set')
    assert found(diagnosis) == dict.fromkeys(kinds, 1)
    assert 'a.jpg of the training data is the same picture' in as_text(diagnosis)


def test_boxes_that_no_anchor_resembles(tmp_path):
    pytest.importorskip('mmdet.models.task_modules.prior_generators.anchor_generator')
    picture(tmp_path, 'a.jpg', 400, 300)
    write(tmp_path, [('a.jpg', 400, 300)], [box(0, 10, 10, 300, 3), box(0, 10, 50, 60, 60, category=1)])
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.pipeline[1].scale = (400, 300)
    cfg.model = dict(
        bbox_head=dict(
            anchor_generator=dict(
                type='AnchorGenerator',
                ratios=[0.5, 1.0, 2.0],
                octave_base_scale=4,
                scales_per_octave=3,
                strides=[8, 16, 32],
            )
        ),
        train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.3)),
    )
    diagnosis = examine(cfg)
    assert found(diagnosis) == {'no anchor matches': 1}
    assert 'a is 300.0x3.0 after resizing: at best IoU' in as_text(diagnosis)


@pytest.mark.parametrize(
    ('segmentation', 'reason'),
    [
        (None, None),
        ([[0, 0, 4, 0, 4, 4]], None),
        (dict(size=[2, 2], counts=[1, 3]), None),
        ([[0, 0, 4, 0]], 'has a polygon without three points'),
        (['x'], "has the polygon 'x', which is no list of numbers"),
        (dict(size=[2, 2], counts=[1, 9]), 'has run lengths that end after 10 pixels of [2, 2], which are 4'),
    ],
)
def test_polygons(segmentation, reason):
    assert polygon_problem(segmentation) == reason


def test_annotation_files_that_cannot_be_read(tmp_path):
    """A finding each, and the other splits are examined."""
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD, 'val.json')
    cfg = config(tmp_path, ann_file='val.json')

    def only():
        (problem,) = examine(cfg).problems
        assert problem.split == 'train' and '\n' not in problem.detail
        return problem.kind, problem.detail

    assert only() == ('unreadable file', f"annotation file '{tmp_path}/train.json' does not exist")
    for content, words in (
        ('{"images": [', 'is not valid JSON'),
        ('{"images": []}', "the file has no key 'categories'"),
        ('{"images": 3, "categories": []}', '"images" is 3, not a list'),
        ('{"images": [3], "categories": []}', '"images" is 3, not an object'),
    ):
        (tmp_path / 'train.json').write_text(content)
        kind, detail = only()
        assert kind == 'unreadable file' and words in detail and 'train.json' in detail
    cfg.train_dataloader.dataset.type = DataLoader
    assert only()[1].endswith('is no subclass of BaseDataset, which reads annotation files')
    cfg.train_dataloader.dataset.type = 'CocoDatset'
    assert 'Did you mean CocoDataset' in only()[1]


@DATASETS.register_module()
class Unfinished(CocoDataset):
    """A data set of others with a fault in it."""

    def load_data_list(self):
        raise ZeroDivisionError('of a class of others')

    raw_annotations = load_data_list


@TRANSFORMS.register_module()
class Fails:
    def __call__(self, results):
        raise IndexError('list index out of range')


def test_faults_of_others_do_not_end_the_examination(tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    cfg = config(tmp_path, ann_file='train.json')
    cfg.val_dataloader.dataset.type = 'Unfinished'
    (problem,) = examine(cfg).problems
    assert (problem.kind, problem.detail) == ('unreadable file', 'ZeroDivisionError: of a class of others')
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.pipeline.append(dict(type='Fails'))
    (problem,) = examine(cfg).problems
    assert (problem.kind, problem.detail) == ('unusable sample', 'IndexError: list index out of range')
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    assert 'unusable sample' in found(examine(cfg))
    assert not examine(cfg, read_images=False).problems


def test_mixing_without_its_wrapper(tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.pipeline += [dict(type='LoadAnnotations'), dict(type='Mosaic')]
    assert set(found(examine(cfg))) == {'unusable sample'}


@pytest.mark.parametrize('size', [(80, 100), (100, 80)])
def test_pictures_turned_by_exif(size, tmp_path):
    """The size in which the loader gives the picture is the right one."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 100, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'a.jpg', exif=exif)
    write(tmp_path, [('a.jpg', *size)], GOOD)
    problems = examine(config(tmp_path)).problems
    assert bool(problems) is (size == (100, 80))
    for problem in problems:
        words = 'the annotation says 100x80, the image is 80x100, turned as its EXIF data say'
        assert problem.kind == 'wrong size' and problem.detail == words


def test_deep_pictures(tmp_path):
    values = np.random.default_rng(0).integers(0, 4095, (80, 100, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values)
    write(tmp_path, [('a.png', 100, 80)], GOOD)
    assert not examine(config(tmp_path)).problems
    cv2.imwrite(str(tmp_path / 'b.png'), values << 4)
    write(tmp_path, [('a.png', 100, 80), ('b.png', 100, 80)], GOOD)
    (problem,) = examine(config(tmp_path)).problems
    assert problem.level == 'warning' and 'pictures are 1 of 12 bits, 1 of 16 bits: set bit_depth' in problem.detail
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.pipeline[0].bit_depth = 16
    assert not examine(cfg).problems


def test_files_that_are_no_pictures(tmp_path, monkeypatch):
    picture(tmp_path, 'a.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')
    (tmp_path / 'folder.jpg').mkdir()
    picture(tmp_path, 'large.jpg', 300, 200)
    monkeypatch.setenv('MMDET_MAX_PIXELS', '50000')
    names = ('a', 'pipe', 'folder', 'large')
    write(tmp_path, [(f'{name}.jpg', 100, 80) for name in names], GOOD)
    problems = examine(config(tmp_path)).problems
    assert {p.kind for p in problems} == {'corrupt image'}
    details = {p.where: p.detail for p in problems}
    assert details.keys() == {'pipe.jpg', 'folder.jpg', 'large.jpg'}
    assert 'no regular file' in details['pipe.jpg'] and 'is a folder' in details['folder.jpg']
    assert 'it has 60,000 pixels, more than the limit' in details['large.jpg']


@TRANSFORMS.register_module()
class LoadTurned(LoadImageFromFile):
    """What a loader does to a picture, the doctor sees."""

    def transform(self, results):
        results = super().transform(results)
        results['img_shape'] = results['img_shape'][::-1]
        return results


def test_pictures_are_read_by_the_loader_of_the_pipeline(tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.pipeline[0].type = 'LoadTurned'
    assert found(examine(cfg)) == {'wrong size': 1}
    wrapped = dict(cfg.train_dataloader.dataset, pipeline=[dict(type='LoadAnnotations')])
    outer = [dict(type='LoadTurned'), dict(type='Resize', scale=(1, 1))]
    cfg.train_dataloader.dataset = dict(type='MultiImageMixDataset', dataset=wrapped, pipeline=outer)
    kinds = found(examine(cfg))
    assert kinds['wrong size'] == 1 and kinds['lost by resizing'] == 2


@pytest.mark.parametrize(
    'wrap',
    [
        lambda x: [x],
        lambda x: dict(type='RepeatDataset', times=2, dataset=x),
        lambda x: dict(type='ConcatDataset', datasets=[x]),
        lambda x: dict(
            type='ClassBalancedDataset', oversample_thr=0.1, dataset=dict(type='RepeatDataset', times=2, dataset=x)
        ),
        lambda x: dict(type='MultiImageMixDataset', dataset=x, pipeline=[dict(type='RandomFlip', prob=0.5)]),
    ],
)
def test_wrappers_hide_nothing(wrap, tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    cfg = config(tmp_path).to_dict()
    dataset = cfg['train_dataloader']['dataset']
    dataset['pipeline'].insert(1, dict(type='LoadAnnotations', with_bbox=True))
    cfg['train_dataloader']['dataset'] = wrap(dataset)
    cfg = Config(cfg, format_python_code=False)
    assert not examine(cfg).problems
    (tmp_path / 'a.jpg').write_bytes(b'nothing')
    assert found(examine(cfg)) == {'corrupt image': 1}
    (tmp_path / 'a.jpg').unlink()
    assert found(examine(cfg)) == {'missing image': 1}


def test_pictures_are_where_the_dataset_looks_for_them(tmp_path):
    picture(tmp_path, 'a.jpg')
    write(tmp_path, [('a.jpg', 100, 80)], GOOD)
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.data_prefix.img = 'elsewhere'
    (problem,) = examine(cfg).problems
    assert problem.kind == 'missing image' and problem.detail.endswith('elsewhere/a.jpg')
    assert found(examine(cfg, read_images=False)) == {'missing image': 1}


def test_a_dataset_with_another_format(tmp_path):
    picture(tmp_path, 'a.jpg')
    faces = [dict(tag='person', fbox=fbox) for fbox in ([1, 1, 20, 30], [5, 5, 0, 9])]
    faces.append(dict(tag='mask', fbox=[40, 10, 20, 20]))
    (tmp_path / 'train.odgt').write_text(json.dumps(dict(ID='a', gtboxes=faces)))
    dataset = dict(type='CrowdHumanDataset', data_root=str(tmp_path), ann_file='train.odgt', data_prefix=dict(img=''))
    diagnosis = examine(Config(dict(train_dataloader=dict(dataset=dataset)), format_python_code=False))
    assert found(diagnosis) == {'degenerate box': 1}
    assert 'a, object 2: person at x 5 to 5' in as_text(diagnosis) and 'person: 2' in as_text(diagnosis)


def test_xml_files_with_gaps(tmp_path):
    names = ('good', 'gap', 'broken', 'absent')
    for folder in ('JPEGImages', 'Annotations'):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate(names):
        picture(tmp_path / 'JPEGImages', f'{name}.jpg', seed=seed)
    item = '<object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>'
    size = '<size><width>100</width><height>80</height></size>'
    for name, inner in (('good', item), ('gap', item + '<object><name>a</name></object>'), ('broken', '<object>')):
        (tmp_path / 'Annotations' / f'{name}.xml').write_text(f'<annotation>{size}{inner}</annotation>')
    (tmp_path / 'train.txt').write_text('\n'.join(names))
    dataset = dict(type='XMLDataset', data_root=str(tmp_path), ann_file='train.txt', metainfo=dict(classes=('a',)))
    dataset['data_prefix'] = dict(sub_data_root='')
    diagnosis = examine(Config(dict(train_dataloader=dict(dataset=dataset)), format_python_code=False))
    assert {p.where for p in diagnosis.problems} == {'gap.xml', 'broken.xml', 'absent.xml'}
    assert set(found(diagnosis)) == {'unreadable annotation'}
    assert len(diagnosis.splits[0].pictures) == 2 and diagnosis.splits[0].counts() == {'a': 2}


def test_real_data_has_exactly_two_degenerate_boxes(shared_dir):
    dataset = dict(type='VOCDataset', data_root=str(shared_dir / 'data' / 'bccd'), data_prefix=dict(sub_data_root=''))
    dataset['metainfo'] = dict(classes=('Platelets', 'RBC', 'WBC'))
    loaders = {
        f'{loader}_dataloader': dict(dataset=dict(dataset, ann_file=f'ImageSets/Main/{name}.txt'))
        for loader, name in (('train', 'trainval'), ('val', 'test'))
    }
    diagnosis = examine(Config(loaders, format_python_code=False))
    assert found(diagnosis) == {'degenerate box': 2}
    assert {p.picture.name for p in diagnosis.problems} == {'BloodImage_00338', 'BloodImage_00343'}

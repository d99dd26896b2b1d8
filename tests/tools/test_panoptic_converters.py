"""Converters of panoptic and semantic data, on pictures of a few pixels, up to what the data sets make of the files."""

import json

import cv2
import numpy as np
import pytest
from test_dataset_converters import tool

from mmdet.datasets import ADE20KInstanceDataset, ADE20KPanopticDataset, ADE20KSegDataset, CocoPanopticDataset
from mmdet.evaluation import CocoPanopticMetric
from mmdet.evaluation.functional.panoptic import id2rgb, read_panoptic_map
from mmdet.structures.mask import INSTANCE_OFFSET

pytestmark = pytest.mark.usefixtures('default_scope')
CLASSES = ADE20KPanopticDataset.METAINFO['classes']


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(pixels, dtype=np.uint8))


@pytest.fixture
def ade(tmp_path):
    """Wall, sky, nothing and a bed; two beds, of which one is annotated, and a window on the wall."""
    wall, sky, bed, window = 1, 3, 8, 9
    semantic = [[wall, wall, window, sky, 0, bed, bed, bed]] * 3
    red = [[0, 0, 2, 0, 0, 1, 1, 0]] * 3
    green = [[0, 0, 1, 0, 0, 1, 2, 0]] * 3
    for split in ('training', 'validation'):
        write(tmp_path / f'images/{split}/x.jpg', np.full((3, 8, 3), 99))
        write(tmp_path / f'annotations/{split}/x.png', semantic)
        write(tmp_path / f'annotations_instance/{split}/x.png', np.stack([np.zeros((3, 8)), green, red], -1))
    return tmp_path


def test_ade20k_panoptic(ade):
    tool('dataset_converters/ade20k2coco').main([str(ade)])
    assert len(json.loads((ade / 'ade20k_panoptic_train.json').read_text())['images']) == 1
    arguments = dict(ann_file='ade20k_panoptic_val.json', data_root=str(ade), test_mode=True)
    dataset = ADE20KPanopticDataset(
        **arguments,
        data_prefix=dict(img='images/validation', seg='ade20k_panoptic_val'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations'), dict(type='PackDetInputs')],
    )
    sample = dataset[0]['data_samples']
    wall, sky, bed, window = (CLASSES.index(name) for name in ('wall', 'sky', 'bed', 'window'))
    assert sample.gt_sem_seg.sem_seg[0, 0].tolist() == [wall, wall, window, sky, 255, bed, bed, 255]
    assert sample.gt_instances.labels.tolist() == [bed, bed, window]
    assert sample.img_id == 'x'

    metric = CocoPanopticMetric(str(ade / 'ade20k_panoptic_val.json'), str(ade / 'ade20k_panoptic_val'))
    metric.dataset_meta = dataset.metainfo
    first, second = bed + INSTANCE_OFFSET, bed + 2 * INSTANCE_OFFSET
    right = [[wall, wall, window + 3 * INSTANCE_OFFSET, sky, len(CLASSES), first, second, len(CLASSES)]] * 3
    one_bed = [[wall, wall, wall, sky, sky, first, first, first]] * 3
    for pixels, wanted in (
        (right, dict(PQ=100, SQ=100, RQ=100, PQ_th=100, PQ_st=100)),
        # wall: IoU 6 / 9; sky: 3 / 3, void does not count; the bed lies half on each of two, window and beds are missed
        (one_bed, dict(PQ=(200 / 3 + 100) / 4, PQ_th=0, PQ_st=(200 / 3 + 100) / 2, RQ=50)),
    ):
        data = dict(sample.to_dict(), ori_shape=(3, 8), pred_panoptic_seg=dict(sem_seg=np.array(pixels)))
        metric.process({}, [data])
        found = metric.evaluate(1)
        for key, value in wanted.items():
            assert found[f'coco_panoptic/{key}'] == pytest.approx(value), key


def test_ade20k_instances(ade):
    tool('dataset_converters/ade20k2coco').main([str(ade), '--task', 'instance'])
    dataset = ADE20KInstanceDataset(
        ann_file='ade20k_instance_train.json',
        data_root=str(ade),
        data_prefix=dict(img='images/training'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_mask=True),
            dict(type='PackDetInputs'),
        ],
    )
    gt = dataset[0]['data_samples'].gt_instances
    assert [dataset.metainfo['classes'][label] for label in gt.labels] == ['bed', 'bed', 'windowpane']
    assert gt.bboxes.tensor.tolist() == [[5, 0, 6, 3], [6, 0, 7, 3], [2, 0, 3, 3]]
    assert gt.masks.to_ndarray().sum((1, 2)).tolist() == [3, 3, 3]


def test_ade20k_as_it_is(ade):
    load = dict(type='LoadAnnotations', with_bbox=False, with_label=False, with_seg=True, reduce_zero_label=True)
    folders = dict(img_path='images/training', seg_map_path='annotations/training')
    dataset = ADE20KSegDataset(
        data_root=str(ade),
        data_prefix=folders,
        pipeline=[dict(type='LoadImageFromFile'), load, dict(type='PackDetInputs')],
    )
    assert dataset[0]['data_samples'].gt_sem_seg.sem_seg[0, 0].tolist() == [0, 0, 8, 2, 255, 7, 7, 7]


def test_ade20k_with_mistakes(ade):
    convert = tool('dataset_converters/ade20k2coco').main
    write(ade / 'annotations/training/x.png', np.full((3, 8), 200))
    with pytest.raises(ValueError, match=r'training/x\.png has the class 200; those of ADE20K are 1 to 150'):
        convert([str(ade)])
    (ade / 'annotations/training/x.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'x\.png does not exist, the map of .*x\.jpg'):
        convert([str(ade)])
    write(ade / 'annotations_instance/training/x.png', np.full((3, 8, 3), 120))
    with pytest.raises(ValueError, match='an object of the class 120; thing classes are 1 to 100'):
        convert([str(ade), '--task', 'instance'])
    write(ade / 'annotations_instance/training/x.png', np.full((3, 8), 120))
    with pytest.raises(ValueError, match='has one channel'):
        convert([str(ade), '--task', 'instance'])
    (ade / 'images/training/x.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'no pictures .*training/\*\.jpg'):
        convert([str(ade)])
    assert not list(ade.glob('*.json'))


def test_coco_stuff(tmp_path):
    convert = tool('dataset_converters/coco_stuff164k').main
    write(tmp_path / 'stuffthingmaps/val2017/1.png', [[0, 10, 12, 89, 91, 181, 255]])
    convert([str(tmp_path), '--nproc', '2', '-o', str(tmp_path / 'out')])
    path = tmp_path / 'out/stuffthingmaps_semseg/val2017/1.png'
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist() == [[0, 10, 11, 79, 80, 170, 255]]
    write(tmp_path / 'stuffthingmaps/val2017/1.png', [[0, 11]])
    with pytest.raises(ValueError, match=r'1\.png has the label 11, which COCO-Stuff does not have'):
        convert([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match='no maps'):
        convert([str(tmp_path / 'out')])


@pytest.fixture
def coco(tmp_path):
    folder = tmp_path / 'annotations'
    write(folder / 'panoptic_val2017/1.png', id2rgb(np.array([[70000, 70000, 3, 0]]))[..., ::-1])
    segments = [dict(id=70000, category_id=92), dict(id=3, category_id=1)]
    content = dict(
        images=[dict(id=1, file_name='1.jpg', width=4, height=1)],
        annotations=[dict(image_id=1, file_name='1.png', segments_info=segments)],
        categories=[dict(id=1, name='person', isthing=1), dict(id=92, name='banner', isthing=0)],
    )
    (folder / 'panoptic_val2017.json').write_text(json.dumps(content))
    return tmp_path


def test_semantic_maps_of_panoptic_ones(coco):
    convert = tool('dataset_converters/prepare_coco_semantic_annos_from_panoptic_annos').main
    convert([str(coco)])
    path = coco / 'annotations/panoptic_semseg_val2017/1.png'
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist() == [[1, 1, 0, 255]]
    write(coco / 'annotations/panoptic_val2017/1.png', id2rgb(np.array([[70000, 5]]))[..., ::-1])
    with pytest.raises(ValueError, match=r'val2017/1\.png has the segment 5, which its annotation does not list'):
        convert([str(coco)])
    with pytest.raises(FileNotFoundError, match=r'neither .*panoptic_val2017\.json nor .*panoptic_train2017\.json'):
        convert([str(coco / 'annotations')])


def test_pictures_of_the_test_set(coco):
    convert, folder = tool('misc/gen_coco_panoptic_test_info').main, coco / 'annotations'
    with pytest.raises(FileNotFoundError, match=r'image_info_test-dev2017\.json does not exist'):
        convert([str(folder)])
    pictures = dict(
        info=dict(year=2017), images=[dict(id=7, file_name='7.jpg')], categories=[dict(id=1, name='person')]
    )
    (folder / 'image_info_test-dev2017.json').write_text(json.dumps(pictures))
    convert([str(folder)])
    made = json.loads((folder / 'panoptic_image_info_test-dev2017.json').read_text())
    assert made['images'] == pictures['images'] and [c['name'] for c in made['categories']] == ['person', 'banner']
    (folder / 'image_info_test-dev2017.json').write_text('{"annotations": []}')
    with pytest.raises(KeyError, match="has no 'images', only 'annotations'"):
        convert([str(folder)])


def test_shapes_on_grounds(tmp_path):
    shapes = tool('dataset_converters/shapes')
    shapes.make_dataset(tmp_path / 'data', train=3, val=1, seed=1, panoptic=True)
    assert shapes.is_there(tmp_path / 'data', 3, 1, 1, True) and not shapes.is_there(tmp_path / 'data', 3, 1, 1)
    things, stuff = shapes.CLASSES, shapes.GROUNDS
    dataset = CocoPanopticDataset(
        data_root=str(tmp_path / 'data'),
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train', seg='annotations/panoptic_train'),
        metainfo=dict(classes=things + stuff, thing_classes=things, stuff_classes=stuff),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations'), dict(type='PackDetInputs')],
    )
    for index in range(3):
        sample = dataset[index]['data_samples']
        seg, gt = sample.gt_sem_seg.sem_seg[0].numpy(), sample.gt_instances
        assert (seg < len(things + stuff)).all() and 2 <= len(set(np.unique(seg)) & {5, 6, 7}) <= 3
        masks = gt.masks.to_ndarray().astype(bool)
        assert masks.sum(0).max() == 1  # what is behind is not seen
        for label, mask, box in zip(gt.labels.tolist(), masks, gt.bboxes.tensor.int().tolist()):
            assert (seg[mask] == label).all()
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    path = tmp_path / 'data/annotations/panoptic_train/000000.png'
    content = json.loads((tmp_path / 'data/annotations/panoptic_train.json').read_text())
    area = {segment['id']: segment['area'] for segment in content['annotations'][0]['segments_info']}
    ids, counts = np.unique(read_panoptic_map(str(path), None), return_counts=True)
    assert dict(zip(ids.tolist(), counts.tolist())) == area

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmdet.datasets.transforms import (
    FilterAnnotations,
    InferencerLoader,
    LoadAnnotations,
    LoadEmptyAnnotations,
    LoadImageFromFile,
    LoadMultiChannelImageFromFiles,
    LoadPanopticAnnotations,
    LoadProposals,
    ProposalBroadcaster,
)
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.utils import pictures


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / 'p.png'
    cv2.imwrite(str(path), np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
    return str(path)


def test_image(picture):
    results = LoadImageFromFile()(dict(img_path=picture))
    assert results['img'].dtype == np.uint8 and results['img'][0, 1].tolist() == [3, 4, 5]
    assert results['img_shape'] == results['ori_shape'] == (4, 6)
    assert LoadImageFromFile(to_float32=True)(dict(img_path=picture))['img'].dtype == np.float32
    pillow = LoadImageFromFile(imdecode_backend='pillow')(dict(img_path=picture))['img']
    assert np.array_equal(pillow, results['img'])
    assert LoadImageFromFile(backend_args=dict(backend='local'))(dict(img_path=picture))['img'].shape == (4, 6, 3)
    assert LoadImageFromFile(color_type='grayscale')(dict(img_path=picture))['img'].shape == (4, 6)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('content', [b'', b'no picture', b'\xff\xd8\xff\xe0 cut'])
def test_unreadable_image(tmp_path, content, backend):
    path = tmp_path / 'bad.jpg'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'image .*bad.jpg. cannot be decoded'):
        LoadImageFromFile(imdecode_backend=backend)(dict(img_path=str(path)))
    assert LoadImageFromFile(ignore_empty=True, imdecode_backend=backend)(dict(img_path=str(path))) is None


def test_missing_image(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'a.jpg. does not exist$'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'a.jpg')))
    with pytest.raises(FileNotFoundError, match=r'nor is there a folder .*look at data_prefix'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'train' / 'a.jpg')))


@pytest.mark.parametrize(('given', 'told'), [((4, 6), 0), ((6, 4), 1), ((4, 60), 1), ((None, None), 0)])
def test_sizes_that_differ_from_the_annotation_are_told_once(given, told, picture, monkeypatch):
    monkeypatch.setattr(pictures, '_said', set())
    lines = []
    monkeypatch.setattr(pictures, 'print_log', lambda text, **options: lines.append(text))
    sample = dict(img_path=picture) | ({} if given[0] is None else dict(height=given[0], width=given[1]))
    for _ in range(2):
        assert LoadImageFromFile()(dict(sample))['img_shape'] == (4, 6)
    assert len(lines) == told and all('is 6x4, its annotation says' in line for line in lines)


def test_inferencer_loader(picture):
    array = cv2.imread(picture)
    for given in (picture, array, dict(img_path=picture), dict(img=array)):
        assert np.array_equal(InferencerLoader()(given)['img'], array)
    with pytest.raises(TypeError, match='not int'):
        InferencerLoader()(3)


def test_several_files(picture):
    loader = LoadMultiChannelImageFromFiles(color_type='grayscale')
    assert loader(dict(img_path=[picture, picture]))['img'].shape == (4, 6, 2)


SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]
RLE = dict(size=[4, 6], counts=[5, 2, 2, 2, 2, 2, 9])  # rows 1 and 2 of columns 1, 2, 3
BITMAP = np.zeros((4, 6), np.uint8)
BITMAP[1:3, 1:4] = 1


def compressed():
    import pycocotools.mask as coco_mask

    return coco_mask.frPyObjects(RLE, 4, 6)


def load_mask(mask, **kwargs):
    results = dict(
        instances=[dict(bbox=[1, 1, 4, 3], bbox_label=2, ignore_flag=0, mask=mask)], ori_shape=(4, 6), img_path='x'
    )
    return LoadAnnotations(with_mask=True, **kwargs)(results)


@pytest.mark.parametrize(
    'mask, area, ignored',
    [
        ([SQUARE], 6, False),
        ([SQUARE, [1, 1, 2, 2]], 6, False),  # two points are no polygon
        (RLE, 6, False),
        (compressed(), 6, False),
        (BITMAP, 6, False),
        ([[1, 1, 2, 2]], 0, True),
        ([], 0, True),
        (dict(size=[4, 6]), 0, True),
    ],
    ids=['polygon', 'polygons', 'rle', 'compressed', 'bitmap', 'two points', 'nothing', 'no counts'],
)
def test_masks(mask, area, ignored):
    results = load_mask(mask)
    assert isinstance(results['gt_masks'], BitmapMasks) and results['gt_masks'].masks.shape == (1, 4, 6)
    assert results['gt_masks'].masks.sum() == area
    if area:
        assert np.array_equal(results['gt_masks'].masks[0], BITMAP)
    assert results['gt_ignore_flags'].tolist() == [ignored]


@pytest.mark.parametrize('mask, ignored', [([SQUARE], False), (RLE, True)])
def test_polygons_stay_polygons(mask, ignored):
    results = load_mask(mask, poly2mask=False)
    assert isinstance(results['gt_masks'], PolygonMasks)
    assert results['gt_ignore_flags'].tolist() == [ignored]


@pytest.mark.parametrize(
    'mask, words',
    [
        ([[0, 0, 2e8, 0, 5, 3]], 'the coordinate 200000000.0'),
        ([[0, 0, float('nan'), 0, 5, 3]], 'the coordinate nan'),
        (dict(size=[4, 6], counts=[5, 2]), 'end after 7 pixels'),
        (dict(size=[4, 6], counts='52'), 'end after 7 pixels'),
        (dict(size=[6, 4], counts=[24]), r'of size \[6, 4\], but the picture is \[4, 6\]'),
        (np.zeros((6, 4), np.uint8), r'a bitmap of shape \(6, 4\)'),
    ],
)
@pytest.mark.parametrize('poly2mask', [True, False])
def test_masks_without_meaning_name_the_picture(mask, words, poly2mask):
    with pytest.raises(ValueError, match=f'x: object 1 .*{words}'):
        load_mask(mask, poly2mask=poly2mask)


@pytest.mark.parametrize('mask', [SQUARE, [RLE], [[[1, 1], [4, 1], [4, 3], [1, 3]]]])
def test_masks_in_other_clothes(mask):
    assert np.array_equal(load_mask(mask)['gt_masks'].masks[0], BITMAP)


def test_a_box_without_a_mask():
    with pytest.raises(KeyError, match='a box has no mask'):
        instances = [dict(bbox=[1, 1, 4, 3], bbox_label=2, ignore_flag=0)]
        LoadAnnotations(with_mask=True)(dict(instances=instances, ori_shape=(4, 6), img_path='a.jpg'))


@pytest.mark.parametrize('boxes', [[], [[1, 2, 3, 4]], [[1, 2, 3, 4], [5, 5, 6, 6]]])
def test_boxes(boxes):
    instances = [dict(bbox=box, bbox_label=i, ignore_flag=i) for i, box in enumerate(boxes)]
    results = LoadAnnotations()(dict(instances=instances))
    assert isinstance(results['gt_bboxes'], HorizontalBoxes)
    assert results['gt_bboxes'].tensor.tolist() == boxes and results['gt_bboxes'].tensor.shape == (len(boxes), 4)
    assert results['gt_bboxes_labels'].tolist() == list(range(len(boxes)))
    assert results['gt_ignore_flags'].tolist() == [bool(i) for i in range(len(boxes))]
    plain = LoadAnnotations(box_type=None)(dict(instances=instances))['gt_bboxes']
    assert isinstance(plain, np.ndarray) and plain.shape == (len(boxes), 4)


def test_keypoints():
    instances = [dict(bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=0, keypoints=[1, 2, 1, 3, 4, 0])]
    assert LoadAnnotations(with_keypoints=True)(dict(instances=instances))['gt_keypoints'].tolist() == [
        [[1, 2, 1], [3, 4, 0]]
    ]


def test_semantic_map(tmp_path):
    path = str(tmp_path / 's.png')
    cv2.imwrite(path, np.array([[0, 1, 255]], np.uint8))
    load = LoadAnnotations(with_bbox=False, with_label=False, with_seg=True)
    assert load(dict(seg_map_path=path))['gt_seg_map'].tolist() == [[0, 1, 255]]
    load = LoadAnnotations(with_bbox=False, with_label=False, with_seg=True, reduce_zero_label=True)
    assert load(dict(seg_map_path=path))['gt_seg_map'].tolist() == [[255, 0, 255]]


def test_panoptic(tmp_path):
    path = str(tmp_path / 'p.png')
    ids = np.array([[1, 1, 300], [0, 70000, 300]])
    cv2.imwrite(path, np.stack([ids // 65536, ids // 256 % 256, ids % 256], -1).astype(np.uint8))
    segments = [
        dict(id=1, category=4, is_thing=True),
        dict(id=300, category=90, is_thing=False),
        dict(id=70000, category=5, is_thing=True),
    ]
    results = LoadPanopticAnnotations()(dict(seg_map_path=path, segments_info=segments, instances=[]))
    assert results['gt_seg_map'].tolist() == [[4, 4, 90], [255, 5, 90]]
    assert results['gt_masks'].masks.tolist() == [[[1, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]]]


@pytest.mark.parametrize(
    'proposals, limit, boxes, scores',
    [
        (dict(bboxes=np.ones((3, 4)), scores=np.array([3, 2, 1.0])), None, 3, [3, 2, 1]),
        (dict(bboxes=np.ones((3, 4))), 2, 2, [0, 0]),
        (np.ones((2, 5)), None, 2, [1, 1]),
        (dict(bboxes=[]), None, 0, []),
    ],
)
def test_proposals(proposals, limit, boxes, scores):
    results = LoadProposals(limit)(dict(proposals=proposals))
    assert results['proposals'].shape == (boxes, 4) and results['proposals'].dtype == np.float32
    assert results['proposals_scores'].tolist() == scores


def test_proposals_go_with_the_boxes(sample, default_scope):
    transforms = [dict(type='Resize', scale=(160, 120)), dict(type='RandomFlip', prob=0.5)]
    for seed in range(4):
        np.random.seed(seed)
        results = sample()
        results = ProposalBroadcaster(transforms)(results | dict(proposals=results['gt_bboxes'].numpy().copy()))
        assert np.array_equal(results['proposals'], results['gt_bboxes'].numpy())
        assert len(results['gt_bboxes_labels']) == 3


def test_empty_annotations():
    load = LoadEmptyAnnotations(with_mask=True, with_seg=True)
    results = load(dict(img_shape=(4, 6)))
    assert results['gt_bboxes'].shape == (0, 4) and len(results['gt_masks']) == 0
    assert (results['gt_seg_map'] == 255).all()


@pytest.mark.parametrize(
    'kwargs, kept',
    [
        (dict(min_gt_bbox_wh=(25, 1)), [1, 2]),  # wider than 25
        (dict(min_gt_bbox_wh=(1, 25)), [1]),
        (dict(by_box=False, by_mask=True, min_gt_mask_area=750), [1, 2]),
        (dict(min_gt_bbox_wh=(99, 99)), None),
        (dict(min_gt_bbox_wh=(99, 99), keep_empty=False), []),
    ],
)
def test_filter(sample, kwargs, kept):
    results = FilterAnnotations(**kwargs)(sample(masks='bitmap'))
    assert (None if results is None else results['gt_bboxes_labels'].tolist()) == kept


def test_filter_of_nothing(sample):
    assert FilterAnnotations()(sample([])) is not None


@pytest.mark.parametrize(
    'proposals, text',
    [
        (dict(bboxes=np.zeros((5, 5))), r'\(5, 5\)'),
        (dict(bboxes=np.zeros((5, 4)), scores=np.zeros(3)), '5 boxes'),
        ([[0, 0, 1, 1]], 'list'),
    ],
)
def test_wrong_proposals(proposals, text):
    with pytest.raises(AssertionError, match=text):
        LoadProposals()(dict(proposals=proposals))


def test_proposals_without_scores():
    results = LoadProposals()(dict(proposals=dict(bboxes=np.zeros((0, 4)))))
    assert results['proposals'].shape == (0, 4) and results['proposals_scores'].shape == (0,)
    instances = InstanceData(bboxes=torch.ones(3, 4), scores=torch.arange(3))
    results = LoadProposals(num_max_proposals=2)(dict(proposals=instances))
    assert results['proposals'].dtype == np.float32 and results['proposals_scores'].tolist() == [0, 1]

import cv2
import numpy as np
import pytest

from mmdet.datasets import VOCDataset, WIDERFaceDataset, XMLDataset
from mmdet.errors import UserError

SIZE = '<size><width>80</width><height>60</height><depth>3</depth></size>'


def box(name, *xyxy, extra=''):
    corners = ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), xyxy, strict=True))
    return f'<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>'


@pytest.fixture
def voc_folder(tmp_path):
    def write(*pictures, size=SIZE):
        for folder in ('JPEGImages', 'Annotations'):
            (tmp_path / folder).mkdir(exist_ok=True)
        for i, objects in enumerate(pictures):
            (tmp_path / 'Annotations' / f'{i}.xml').write_text(f'<annotation>{size}{objects}</annotation>')
            cv2.imwrite(str(tmp_path / 'JPEGImages' / f'{i}.jpg'), np.zeros((60, 80, 3), np.uint8))
        (tmp_path / 'list.txt').write_text('\n'.join(map(str, range(len(pictures)))) + '\n')
        return dict(data_root=str(tmp_path), ann_file='list.txt', data_prefix=dict(sub_data_root=''))

    return write


def first(dataset):
    return [(x['bbox_label'], x['bbox'], x['ignore_flag']) for x in dataset.get_data_info(0)['instances']]


@pytest.mark.parametrize(
    'objects, filter_cfg, expected',
    [
        (box('car', 1, 1, 11, 21), None, [(1, [0, 0, 10, 20], 0)]),
        (box('car', 1.7, 1, 11, 21), None, [(1, [0, 0, 10, 20], 0)]),  # whole pixels
        (box('cat', 1, 1, 11, 21, extra='<difficult>1</difficult>'), None, [(0, [0, 0, 10, 20], 1)]),
        (box('cat', 9, 9, 9, 30), None, [(0, [8, 8, 8, 29], 1)]),  # without area: ignored
        (box('cat', 1, 1, 11, 21), dict(bbox_min_size=15), [(0, [0, 0, 10, 20], 1)]),
        (box('cat', 1, 1, 11, 21) + box('pig', 1, 1, 9, 9), None, [(0, [0, 0, 10, 20], 0)]),
    ],
)
def test_boxes(voc_folder, objects, filter_cfg, expected):
    dataset = XMLDataset(**voc_folder(objects), metainfo=dict(classes=('cat', 'car')), filter_cfg=filter_cfg)
    assert first(dataset) == expected


def test_size_from_the_picture(voc_folder):
    dataset = XMLDataset(**voc_folder(box('cat', 1, 1, 9, 9), size=''), metainfo=dict(classes=('cat',)))
    info = dataset.get_data_info(0)
    assert (info['height'], info['width'], info['img_id']) == (60, 80, '0')


@pytest.mark.parametrize(
    ('there', 'filename'),
    [
        ('0.png', '0.png'),
        ('0.png', '0.jpg'),  # converted since
        ('0.png', ''),
        ('0.jfif', ''),
        ('0.JPG', '0.jpg'),
        ('IMG_1.jpg', 'C:\\\\photos\\\\IMG_1.jpg'),  # as labelling tools on Windows write it
        ('0.jpg', 'other.jpg'),
    ],
)
def test_pictures_of_any_suffix(voc_folder, there, filename, tmp_path):
    args = voc_folder(box('cat', 1, 1, 9, 9), size=SIZE + (f'<filename>{filename}</filename>' if filename else ''))
    (tmp_path / 'JPEGImages' / '0.jpg').rename(tmp_path / 'JPEGImages' / there)
    dataset = XMLDataset(**args, metainfo=dict(classes=('cat',)), pipeline=[dict(type='LoadImageFromFile')])
    assert dataset.get_data_info(0)['img_path'] == str(tmp_path / 'JPEGImages' / there)
    assert dataset[0]['img'].shape == (60, 80, 3)


@pytest.mark.parametrize(
    'classes, message',
    [
        (('pig', 'cow'), r'none of the classes .* name cat, dog\. Set metainfo=dict\(classes='),
        (('Cat', 'dog'), "the class 'Cat' is not in the XML files, but 'cat' is"),
        ((), 'has no classes'),
    ],
)
def test_classes_that_are_not_there(voc_folder, classes, message):
    args = voc_folder(box('cat', 1, 1, 9, 9) + box('dog', 1, 1, 9, 9))
    with pytest.raises(ValueError, match=message):
        XMLDataset(**args, metainfo=dict(classes=classes))


def test_a_class_may_be_absent(voc_folder):
    args = voc_folder(box('cat', 1, 1, 9, 9))
    assert len(XMLDataset(**args, metainfo=dict(classes=('elephant', 'cat')))) == 1


def test_broken_and_missing_xml(voc_folder, tmp_path):
    args = voc_folder(box('cat', 1, 1, 9, 9))
    (tmp_path / 'Annotations' / '0.xml').write_text('<annotation>')
    with pytest.raises(ValueError, match=r'0.xml. is not valid XML'):
        XMLDataset(**args, metainfo=dict(classes=('cat',)))
    (tmp_path / 'Annotations' / '0.xml').write_text('<annotation><object><name>cat</name></object></annotation>')
    with pytest.raises(ValueError, match=r"0.xml.: no 'xmin' in an object"):
        XMLDataset(**args, metainfo=dict(classes=('cat',)))
    (tmp_path / 'Annotations' / '0.xml').unlink()
    with pytest.raises(FileNotFoundError, match=r'0.xml. does not exist'):
        XMLDataset(**args, metainfo=dict(classes=('cat',)))


@pytest.mark.parametrize('width', ['0', '-80', '', 'Unspecified', 'nan', '80.5', '1e30', None])
def test_a_size_that_is_none_is_that_of_the_picture(voc_folder, width):
    size = '' if width is None else f'<width>{width}</width>'
    args = voc_folder(box('cat', 1, 1, 9, 9), size=f'<size>{size}<height>60</height></size>')
    dataset = XMLDataset(**args, metainfo=dict(classes=('cat',)), filter_cfg=dict(min_size=32))
    info = dataset.get_data_info(0)
    assert (info['width'], info['height']) == (80, 60)
    assert dataset.report.counts == {'size taken from the picture': 1}


def test_numbers_written_as_decimals(voc_folder):
    args = voc_folder(box('cat', '1.0', ' 2.0 ', '11.0', '21e0'), size=SIZE.replace('80', '80.0'))
    dataset = XMLDataset(**args, metainfo=dict(classes=('cat',)))
    assert first(dataset) == [(0, [0, 1, 10, 20], 0)] and not dataset.report.counts


@pytest.mark.parametrize(
    'objects, kind, expected',
    [
        (box('cat', 11, 1, 1, 21), 'corners in the other order', [0, 0, 10, 20]),
        (
            box('cat', 1, 1, 11, 21, extra='<difficult>Unspecified</difficult>'),
            'flag that is no 0 or 1',
            [0, 0, 10, 20],
        ),
        (box('cat', 1, 1, 11, 21, extra='<difficult>0.0</difficult>'), 'flag that is no 0 or 1', [0, 0, 10, 20]),
        (box('cat', 1, 1, 11, 21) + box('pig', 1, 1, 9, 9), 'not among the classes', [0, 0, 10, 20]),
        (box('cat', 1, 1, 11, 21) + box('cat', 90, 1, 99, 9), 'box outside', [0, 0, 10, 20]),
    ],
)
def test_boxes_that_are_repaired_or_left_out(voc_folder, objects, kind, expected):
    dataset = XMLDataset(**voc_folder(objects), metainfo=dict(classes=('cat',)))
    assert first(dataset) == [(0, expected, 0)]
    assert dataset.report.counts[kind] == 1 and sum(dataset.report.counts.values()) == 1


@pytest.mark.parametrize(
    'objects, words',
    [
        (box('cat', 'nan', 1, 11, 21), "object 1, 'cat': its box has 'nan' where a finite number belongs"),
        (box('cat', 1, 1, '1e400', 21), "has '1e400' where"),
        (box('cat', 1, 1, '', 21), "has '' where"),
        (box('cat', 1, 1, 'Unspecified', 21), "has 'Unspecified' where"),
        (box('cat', 0.1, 0.1, 0.3, 0.5), '1 of 1 boxes .* lie in 0..1'),
        (box('cat', 1, 1, 9, 9, extra='<difficult>maybe</difficult>'), "has difficult='maybe'"),
        ('<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>', "no 'ymin' in 'bndbox'"),
    ],
)
def test_objects_without_meaning(voc_folder, objects, words):
    with pytest.raises(UserError, match=words) as error:
        XMLDataset(**voc_folder(objects), metainfo=dict(classes=('cat',)))
    assert '0.xml' in str(error.value)


def test_a_picture_that_is_listed_twice(voc_folder, tmp_path):
    args = voc_folder(box('cat', 1, 1, 11, 21))
    (tmp_path / 'list.txt').write_text('0\n0\n0\n')
    dataset = XMLDataset(**args, metainfo=dict(classes=('cat',)))
    assert len(dataset) == 1 and dataset.report.counts == {'picture listed twice': 2}


def test_findings_for_those_who_look_for_mistakes(voc_folder):
    args = voc_folder(box('cat', 11, 1, 1, 21), box('cat', 'x', 1, 1, 21), size='<size><width>0</width></size>')
    raw = XMLDataset(**args, metainfo=dict(classes=('cat',)), lazy_init=True).raw_annotations()
    assert sorted((fault.kind, fault.where, fault.picture.name) for fault in raw.faults) == [
        ('corners in the other order', '0.xml', '0'),
        ('size taken from the picture', '0.xml', '0'),
        ('size taken from the picture', '1.xml', '1'),
        ('unreadable annotation', '1.xml', '1'),
    ]


def test_filter(voc_folder):
    args = voc_folder(box('cat', 1, 1, 9, 9), '')
    kept = XMLDataset(**args, metainfo=dict(classes=('cat',)), filter_cfg=dict(filter_empty_gt=True, min_size=32))
    assert len(kept) == 1
    with pytest.raises(ValueError, match=r'filter_empty_gt.* took 1; min_size=61.* took 1'):
        XMLDataset(**args, metainfo=dict(classes=('cat',)), filter_cfg=dict(filter_empty_gt=True, min_size=61))


@pytest.mark.parametrize('year', ['VOC2007', 'VOC2012', None])
def test_voc_knows_its_year(year):
    dataset = VOCDataset(data_prefix=dict(sub_data_root=f'{year}/' if year else ''), lazy_init=True)
    assert dataset.metainfo['dataset_type'] == year
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 20


def test_wider_face_landmarks(tmp_path):
    marks = ''.join(f'<x{i}>{10 * i}</x{i}><y{i}>{i}</y{i}>' for i in range(1, 5)) + '<x5>-1</x5><y5>-1</y5>'
    with_marks = box('face', 1, 2, 30, 40, extra=f'<has_lm>1</has_lm><lm>{marks}</lm>')
    (tmp_path / 'Annotations').mkdir()
    text = f'<annotation><folder>0--Parade</folder>{SIZE}{with_marks}{box("face", 1, 2, 9, 9)}</annotation>'
    (tmp_path / 'Annotations' / 'a.xml').write_text(text)
    (tmp_path / 'train.txt').write_text('a\n')
    dataset = WIDERFaceDataset(data_root=str(tmp_path), ann_file='train.txt', data_prefix=dict(img=''))
    info = dataset.get_data_info(0)
    assert info['img_path'] == str(tmp_path / '0--Parade' / 'a.jpg')
    assert info['instances'][0]['bbox'] == [1, 2, 30, 40]
    assert info['instances'][0]['keypoints'] == [10, 1, 1, 20, 2, 1, 30, 3, 1, 40, 4, 1, 0, 0, 0]
    assert info['instances'][1]['keypoints'] == [0] * 15
    assert info['flip_indices'] == (1, 0, 2, 4, 3)


OFFICIAL = """0--Parade/a.jpg
2
1 2 30 40 0 0 0 0 0 0
5 5 9 9 0 0 0 1 0 0
0--Parade/b.jpg
0
0 0 0 0 0 0 0 0 0 0
"""
RETINAFACE = """# 0--Parade/a.jpg
1 2 30 40 10 1 0.0 20 2 0.0 30 3 0.0 40 4 1.0 -1 -1 -1.0 0.82
5 5 9 9 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 0.1
# 0--Parade/b.jpg
"""


@pytest.mark.parametrize(
    'text, flags, keypoints',
    [
        (OFFICIAL, [0, 1], [0] * 15),
        (RETINAFACE, [0, 0], [10, 1, 1, 20, 2, 1, 30, 3, 1, 40, 4, 1, 0, 0, 0]),
    ],
    ids=['official', 'retinaface'],
)
def test_wider_face_text_files(tmp_path, text, flags, keypoints):
    (tmp_path / 'images' / '0--Parade').mkdir(parents=True)
    for name in 'ab':
        cv2.imwrite(str(tmp_path / 'images' / '0--Parade' / f'{name}.jpg'), np.zeros((60, 80, 3), np.uint8))
    (tmp_path / 'gt.txt').write_text(text)
    args = dict(data_root=str(tmp_path), ann_file='gt.txt', data_prefix=dict(img=''))
    dataset = WIDERFaceDataset(**args)
    info = dataset.get_data_info(0)
    assert (info['height'], info['width'], info['img_id']) == (60, 80, '0--Parade/a')
    assert [x['bbox'] for x in info['instances']] == [[1, 2, 31, 42], [5, 5, 14, 14]]
    assert [x['ignore_flag'] for x in info['instances']] == flags
    assert info['instances'][0]['keypoints'] == keypoints and info['instances'][1]['keypoints'] == [0] * 15
    assert dataset.get_data_info(1)['instances'] == []
    small = WIDERFaceDataset(**args, filter_cfg=dict(filter_empty_gt=True, bbox_min_size=17))
    assert len(small) == 1 and [x['ignore_flag'] for x in small.get_data_info(0)['instances']] == [0, 1]
    (tmp_path / 'gt.txt').write_text('\n'.join([*text.splitlines()[:-1], '1 2']))
    with pytest.raises(ValueError, match=r'gt\.txt'):
        WIDERFaceDataset(**args)


def test_blood_cells(shared_dir):
    """Real pictures: 364 of them, two boxes without area."""
    sizes, degenerate = [], 0
    for split in ('trainval', 'test'):
        dataset = XMLDataset(
            data_root=str(shared_dir / 'data' / 'bccd'),
            ann_file=f'ImageSets/Main/{split}.txt',
            data_prefix=dict(sub_data_root=''),
            metainfo=dict(classes=('RBC', 'WBC', 'Platelets')),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
        )
        sizes.append(len(dataset))
        infos = map(dataset.get_data_info, range(len(dataset)))
        degenerate += sum(instance['ignore_flag'] for info in infos for instance in info['instances'])
        assert dataset[0]['img'].shape == (480, 640, 3)
    assert sum(sizes) == 364
    assert degenerate == 2


def test_encodings_of_several_bytes(voc_folder):
    options = voc_folder(box('cat', 1, 1, 11, 21))
    path = f'{options["data_root"]}/Annotations/0.xml'
    text = f'<annotation>{SIZE}{box("猫", 1, 1, 11, 21)}</annotation>'
    with open(path, 'wb') as file:
        file.write(f'<?xml version="1.0" encoding="gbk"?>\n{text}'.encode('gbk'))
    assert first(XMLDataset(**options, metainfo=dict(classes=('猫',)))) == [(0, [0, 0, 10, 20], 0)]
    with open(path, 'wb') as file:
        file.write(f'<?xml version="1.0" encoding="gbk"?>\n{text}'.encode())
    with pytest.raises(UserError, match=r'0\.xml.*is not valid XML'):
        XMLDataset(**options, metainfo=dict(classes=('猫',)))

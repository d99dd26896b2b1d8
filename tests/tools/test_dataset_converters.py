import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet.datasets import ODVGDataset
from mmdet.registry import MODELS

FOLDER = Path(__file__).parents[2] / 'tools'


def tool(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    out = tmp_path_factory.mktemp('shapes') / 'data'
    tool('dataset_converters/shapes').make_dataset(out, train=12, val=4, seed=1)
    return out


def test_shapes_are_a_function_of_the_seed(shapes, tmp_path):
    module = tool('dataset_converters/shapes')
    module.make_dataset(tmp_path / 'again', train=12, val=4, seed=1)
    module.make_dataset(tmp_path / 'other', train=12, val=4, seed=2)
    for file in ('annotations/train.json', 'annotations/val.json', 'train/000003.jpg'):
        assert (tmp_path / 'again' / file).read_bytes() == (shapes / file).read_bytes()
        assert (tmp_path / 'other' / file).read_bytes() != (shapes / file).read_bytes()
    assert module.is_there(shapes, 12, 4, 1) and not module.is_there(shapes, 12, 4, 2)
    with pytest.raises(FileExistsError, match='not empty'):
        module.make_dataset(shapes, train=1, val=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['again', 'other']  # nothing temporary is left


def test_shapes_with_texts(tmp_path, default_scope):
    pytest.importorskip('transformers', reason='transformers, by which texts are read')
    module = tool('dataset_converters/shapes')
    module.make_dataset(tmp_path / 'data', train=5, val=1, seed=1, texts=True)
    module.make_dataset(tmp_path / 'again', train=5, val=1, seed=1, texts=True)
    for file in (
        'train/000004.jpg',
        'annotations/train_vg.json',
        'annotations/train_od.json',
        'bert/model.safetensors',
    ):
        assert (tmp_path / 'data' / file).read_bytes() == (tmp_path / 'again' / file).read_bytes()
    assert module.is_there(tmp_path / 'data', 5, 1, 1, texts=True) and not module.is_there(tmp_path / 'data', 5, 1, 1)

    common = dict(data_root=str(tmp_path / 'data'), data_prefix=dict(img='train/'), return_classes=True, pipeline=[])
    named = ODVGDataset(ann_file='annotations/train_od.json', label_map_file='annotations/label_map.json', **common)
    said = ODVGDataset(ann_file='annotations/train_vg.json', **common)
    assert len(named) == len(said) == 5
    for one, other in zip(named, said, strict=True):
        there = [one['text'][str(instance['bbox_label'])] for instance in one['instances']]
        assert len(other['phrases']) == len(set(there))
        found = []
        for instance in other['instances']:
            phrase = other['phrases'][instance['bbox_label']]
            ((start, end),) = phrase['tokens_positive']
            count, *name = other['text'][start:end].split()
            assert phrase['phrase'] == other['text'][start:end]
            number = module.COUNTS.index(count) + 1
            name = ' '.join(name)
            found.append(name if number == 1 else name[:-2] if name.endswith('crosses') else name[:-1])
            assert there.count(found[-1]) == number
        assert sorted(found) == sorted(there)

    model = MODELS.build(dict(type='BertModel', name=str(tmp_path / 'data' / 'bert'), pad_to_max=False))
    (read,) = model.tokenize('Two red circles, a blue star and three yellow crosses.').encodings
    said = 'two red circles , a blue star and three yellow crosses .'
    assert read.tokens == ['[CLS]', *said.split(), '[SEP]']


def test_captions_say_how_many():
    module = tool('dataset_converters/shapes')
    labels = ['blue star', 'red cross', 'blue star', 'red cross', 'red cross', 'green circle']
    sentences = {module.caption_of(np.random.default_rng(seed), labels)[0] for seed in range(50)}
    assert len(sentences) == 6 and 'two blue stars, three red crosses and a green circle.' in sentences
    assert module.caption_of(np.random.default_rng(0), ['red star']) == ('a red star.', [('red star', [0, 10])])


def test_shapes_load_with_boxes_that_fit_their_polygons(shapes):
    from mmdet.datasets import CocoDataset

    dataset = CocoDataset(
        data_root=str(shapes),
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=('circle', 'square', 'triangle', 'star', 'cross')),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True)],
    )
    assert len(dataset) == 12
    for i in range(12):
        sample = dataset[i]
        height, width = sample['img_shape']
        boxes = sample['gt_bboxes'].numpy()
        assert 1 <= len(boxes) <= 7
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
        tight = sample['gt_masks'].get_bboxes(type(sample['gt_bboxes'])).numpy()
        assert np.abs(tight - boxes).max() <= 1.5
        assert not sample['gt_ignore_flags'].any()


@pytest.mark.parametrize(
    'points, clipped',
    [
        ([[1, 1], [3, 1], [3, 3], [1, 3]], 4),
        ([[-2, 1], [2, 1], [2, 3], [-2, 3]], 4),  # half of it
        ([[-2, -2], [-1, -2], [-1, -1]], 0),
        ([[-5, -5], [20, -5], [20, 20], [-5, 20]], 80),  # the whole picture
    ],
)
def test_clipping(points, clipped):
    polygon = tool('dataset_converters/shapes').clip_polygon(np.array(points, dtype=float), 10, 8)
    area = cv2.contourArea(polygon.astype(np.float32)) if len(polygon) else 0
    assert area == clipped


def test_blood_cells_to_coco(shared_dir, tmp_path, capsys):
    convert = tool('dataset_converters/pascal_voc').convert
    convert(shared_dir / 'data' / 'bccd', tmp_path / 'out', None, False)
    trainval = json.loads((tmp_path / 'out' / 'trainval.json').read_text())
    test = json.loads((tmp_path / 'out' / 'test.json').read_text())
    assert len(trainval['images']) + len(test['images']) == 364
    assert [category['name'] for category in trainval['categories']] == ['Platelets', 'RBC', 'WBC']
    assert capsys.readouterr().err.count('left out, a box without area') == 2
    convert(shared_dir / 'data' / 'bccd', tmp_path / 'all', ['WBC', 'RBC', 'Platelets'], True)
    kept = json.loads((tmp_path / 'all' / 'trainval.json').read_text())
    assert len(kept['annotations']) == len(trainval['annotations']) + 2
    assert [category['name'] for category in kept['categories']] == ['WBC', 'RBC', 'Platelets']


def voc(folder, *boxes):
    for name in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (folder / name).mkdir(parents=True)
    objects = ''.join(
        f'<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>'
        '</bndbox></object>'
        for name, x1, y1, x2, y2 in boxes
    )
    size = '<size><width>80</width><height>60</height></size>'
    (folder / 'Annotations' / 'a.xml').write_text(f'<annotation>{size}{objects}</annotation>')
    (folder / 'ImageSets' / 'Main' / 'train.txt').write_text('a\n')
    cv2.imwrite(str(folder / 'JPEGImages' / 'a.jpg'), np.zeros((60, 80, 3), np.uint8))


def test_voc_to_coco(tmp_path):
    convert = tool('dataset_converters/pascal_voc').convert
    voc(tmp_path / 'VOC2007', ('dog', 1, 1, 11, 21), ('cat', 5, 5, 5, 9))
    voc(tmp_path / 'VOC2012', ('cat', 2, 2, 4, 4))
    files = convert(tmp_path, tmp_path / 'out', None, False)
    assert [file.name for file in files] == ['voc07_train.json', 'voc12_train.json', 'voc0712_train.json']
    content = json.loads(files[2].read_text())
    assert [image['file_name'] for image in content['images']] == [
        'VOC2007/JPEGImages/a.jpg',
        'VOC2012/JPEGImages/a.jpg',
    ]
    assert [(ann['image_id'], ann['bbox'], ann['category_id']) for ann in content['annotations']] == [
        (0, [0, 0, 10, 20], 11),
        (1, [1, 1, 2, 2], 7),
    ]
    with pytest.raises(ValueError, match=r"no box is of class \['pig'\]; there are \['cat', 'dog'\]"):
        convert(tmp_path, tmp_path / 'out', ['pig', 'dog'], False)
    (tmp_path / 'VOC2007' / 'Annotations' / 'a.xml').write_text('<annotation>')
    with pytest.raises(ValueError, match=r'a\.xml is not a PASCAL VOC annotation'):
        convert(tmp_path, tmp_path / 'out', None, False)
    with pytest.raises(FileNotFoundError, match='neither a folder Annotations nor folders VOC'):
        convert(tmp_path / 'out', tmp_path / 'out', None, False)


def test_voc_with_odd_values_to_coco(tmp_path, capsys):
    """Sizes that are none are those of the pictures, corners change places, decimals and words are read."""
    convert = tool('dataset_converters/pascal_voc').convert
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (tmp_path / folder).mkdir(parents=True)
    corners = '<xmin>31.0</xmin><ymin>1</ymin><xmax>1</xmax><ymax>2e1</ymax>'
    item = f'<object><name>a</name><difficult>Unspecified</difficult><bndbox>{corners}</bndbox></object>'
    path = tmp_path / 'Annotations' / '0.xml'
    path.write_text(f'<annotation><size><width>0</width><height>x</height></size>{item}</annotation>')
    cv2.imwrite(str(tmp_path / 'JPEGImages' / '0.jpg'), np.zeros((60, 80, 3), np.uint8))
    (tmp_path / 'ImageSets/Main/train.txt').write_text('0\n')
    (written,) = convert(tmp_path, tmp_path / 'out', None, False)
    content = json.loads(written.read_text())
    assert (content['images'][0]['width'], content['images'][0]['height']) == (80, 60)
    assert [(x['bbox'], x['ignore']) for x in content['annotations']] == [([0, 0, 30, 19], 0)]
    assert 'size taken from the picture' in capsys.readouterr().err
    path.write_text(path.read_text().replace('31.0', 'nan'))
    with pytest.raises(ValueError, match=r"0\.xml .*a box of 'a' has 'nan'"):
        convert(tmp_path, tmp_path / 'out', None, False)


def test_images_to_coco(tmp_path):
    pictures = tmp_path / 'pictures' / 'inner'
    pictures.mkdir(parents=True)
    cv2.imwrite(str(pictures / 'a.jpg'), np.zeros((60, 80, 3), np.uint8))
    cv2.imwrite(str(pictures / 'b.bmp'), np.zeros((60, 80, 3), np.uint8))
    (pictures / 'c.txt').write_text('no picture')
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    arguments = [str(tmp_path / 'pictures'), str(tmp_path / 'classes.txt'), 'out.json', '-e', 'bmp']
    tool('dataset_converters/images2coco').main(arguments)
    content = json.loads((tmp_path / 'annotations' / 'out.json').read_text())
    assert content['images'] == [dict(id=0, file_name='inner/a.jpg', width=80, height=60)]
    assert [category['name'] for category in content['categories']] == ['cat', 'dog']


def test_cityscapes_to_coco(tmp_path):
    from mmdet.datasets import CityscapesDataset

    for folder in ('leftImg8bit/val/ulm', 'gtFine/val/ulm'):
        (tmp_path / folder).mkdir(parents=True)
    ids = np.zeros((60, 80), np.uint16)
    ids[10:20, 30:50] = 26000  # a car
    ids[30:40, 5:15] = 24001  # a person
    ids[50:, :] = 24  # a crowd
    ids[:5, :] = 7  # road
    cv2.imwrite(str(tmp_path / 'leftImg8bit/val/ulm/ulm_0_leftImg8bit.png'), np.zeros((60, 80, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'gtFine/val/ulm/ulm_0_gtFine_instanceIds.png'), ids)
    tool('dataset_converters/cityscapes').main([str(tmp_path), '-o', str(tmp_path / 'annotations')])
    dataset = CityscapesDataset(
        data_root=str(tmp_path),
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True)],
    )
    sample = dataset[0]
    names = [dataset.metainfo['classes'][label] for label in sample['gt_bboxes_labels']]
    assert names == ['person', 'person', 'car']
    assert sample['gt_ignore_flags'].tolist() == [True, False, False]
    assert sample['gt_bboxes'].tensor.tolist() == [[0, 50, 80, 60], [5, 30, 15, 40], [30, 10, 50, 20]]
    assert sample['gt_masks'].areas.tolist() == [800, 100, 200]


def test_browse_dataset(shapes, tmp_path, default_scope):
    config = tmp_path / 'config.py'
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    dataset = dict(
        type='CocoDataset',
        data_root=str(shapes),
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=('circle', 'square', 'triangle', 'star', 'cross')),
        pipeline=[*pipeline, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')],
    )
    config.write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    arguments = [str(config), '--not-show', '--output-dir', str(tmp_path / 'out'), '--limit', '3', '--seed', '0']
    tool('analysis_tools/browse_dataset').main(arguments)
    written = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in written] == ['000000.jpg', '000001.jpg', '000002.jpg']
    plain = cv2.imread(str(shapes / 'train' / '000000.jpg'))
    assert cv2.imread(str(written[0])).shape == plain.shape


@pytest.fixture
def crowd(tmp_path):
    """Two pictures of CrowdHuman, and a config of their data set."""
    boxes = [
        dict(tag='person', fbox=[1, 2, 10, 20], vbox=[1, 2, 10, 5], hbox=[2, 2, 4, 4], extra=dict(ignore=0)),
        dict(tag='mask', fbox=[5, 5, 8, 8]),
        dict(tag='person', fbox=[5, 5, 8, 8], extra=dict(ignore=1)),
    ]
    lines = [dict(ID='273,a', gtboxes=boxes), dict(ID='7,b', gtboxes=[])]
    (tmp_path / 'annotation_val.odgt').write_text('\n'.join(map(json.dumps, lines)))
    for folder in ('val', 'Images'):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / '273,a.jpg'), np.zeros((30, 40, 3), np.uint8))
        cv2.imwrite(str(tmp_path / folder / '7,b.jpg'), np.zeros((50, 60, 3), np.uint8))
    dataset = dict(
        type='CrowdHumanDataset',
        data_root=str(tmp_path),
        ann_file='annotation_val.odgt',
        data_prefix=dict(img='Images/'),
        filter_cfg=dict(filter_empty_gt=True),
    )
    (tmp_path / 'config.py').write_text(f'val_dataloader = dict(dataset={dataset!r})')
    return tmp_path


def test_crowdhuman_as_coco(crowd, capsys):
    from mmdet.datasets import CocoDataset

    tool('dataset_converters/crowdhuman2coco').main(['-i', str(crowd), '-o', str(crowd / 'out')])
    assert 'crowdhuman_val.json: 2 images, 3 annotations' in capsys.readouterr().out
    content = json.loads((crowd / 'out' / 'crowdhuman_val.json').read_text())
    first, *others = content['annotations']
    assert first['visibility'] == 0.25 and first['area'] == 200 and first['head_bbox'] == [2, 2, 4, 4]
    assert [first['iscrowd'], *(other['iscrowd'] for other in others)] == [0, 1, 1]
    dataset = CocoDataset(
        ann_file=str(crowd / 'out' / 'crowdhuman_val.json'),
        metainfo=dict(classes=('pedestrian',)),
        test_mode=True,
        pipeline=[],
    )
    assert [(info['height'], info['width']) for info in map(dataset.get_data_info, range(2))] == [(30, 40), (50, 60)]
    assert [o['ignore_flag'] for o in dataset.get_data_info(0)['instances']] == [0, 1, 1]
    with pytest.raises(FileNotFoundError, match='neither'):
        tool('dataset_converters/crowdhuman2coco').main(['-i', str(crowd / 'val'), '-o', str(crowd)])


def test_split_of_coco(tmp_path, capsys):
    content = dict(
        info={},
        images=[dict(id=10 * i) for i in range(40)],
        annotations=[dict(id=i, image_id=10 * (i % 40)) for i in range(80)],
        categories=[dict(id=1, name='cat')],
    )
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'instances_train2017.json').write_text(json.dumps(content))
    main = tool('misc/split_coco').main
    folders = ['--data-root', str(tmp_path), '--out-dir', str(tmp_path / 'semi')]
    main([*folders, '--labeled-percent', '10', '2.5', '--fold', '2'])
    names = {path.name for path in (tmp_path / 'semi').iterdir()}
    starts = [f'instances_train2017.{fold}@{percent}' for fold in (1, 2) for percent in ('10', '2.5')]
    assert names == {f'{start}{end}.json' for start in starts for end in ('', '-unlabeled')}
    first, rest = (
        json.loads((tmp_path / 'semi' / f'instances_train2017.1@10{end}.json').read_text())
        for end in ('', '-unlabeled')
    )
    # np.random.seed(1); np.random.choice(range(40), size=4)
    assert [image['id'] for image in first['images']] == [80, 90, 120, 370]
    assert len(rest['images']) == 36 and first['categories'] == rest['categories'] == content['categories']
    for part in (first, rest):
        ids = [image['id'] for image in part['images']]
        assert part['annotations'] == [row for row in content['annotations'] if row['image_id'] in ids]
    assert 'instances_train2017.1@10: 4 pictures with labels, 36 without' in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match='--data-root must be the folder of COCO'):
        main(['--data-root', str(tmp_path / 'none')])
    with pytest.raises(ValueError, match='must lie between 0 and 100, not 0'):
        main([*folders, '--labeled-percent', '0'])


def test_sizes_of_crowdhuman(crowd, capsys):
    main = tool('misc/get_crowdhuman_id_hw').main
    main([str(crowd / 'config.py'), '--dataset', 'val'])
    assert 'id_hw_val.json: 2 pictures' in capsys.readouterr().out
    assert json.loads((crowd / 'id_hw_val.json').read_text()) == {'273,a': [30, 40], '7,b': [50, 60]}
    from mmdet.datasets import CrowdHumanDataset

    for path in (crowd / 'Images').iterdir():
        path.unlink()
    dataset = CrowdHumanDataset(
        data_root=str(crowd), ann_file='annotation_val.odgt', data_prefix=dict(img='Images/'), pipeline=[]
    )
    assert dataset.get_data_info(0)['height'] == 30

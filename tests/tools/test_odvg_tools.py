import importlib.util
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet.datasets import ODVGDataset
from mmdet.errors import UserError

FOLDER = Path(__file__).parents[2] / 'tools'


def loaded(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *args):
    loaded(name).main(list(map(str, args)))


def convert(name, *args):
    run(f'dataset_converters/{name}', *args)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def coco(boxes, categories, **image):
    """A picture of 80x60 and its boxes: xywh, category and further keys."""
    images = [dict(id=5, file_name='a/b/5.jpg', height=60, width=80) | image]
    annotations = [
        dict(id=i, image_id=5, bbox=box, category_id=category, area=9, iscrowd=0) | dict(more)
        for i, (box, category, *more) in enumerate(boxes, 1)
    ]
    return dict(images=images, annotations=annotations, categories=categories)


BOXES = [
    ([1, 2, 10, 20], 3),
    ([5, 5, 5, 5], 7),
    ([5, 5, 5, 5], 7, ('iscrowd', 1)),
    ([90, 5, 5, 5], 7),
    ([5, 5, 0.5, 5], 7),
]
CATEGORIES = [dict(id=7, name='dog', frequency='r'), dict(id=3, name='cat', frequency='f')]
KEPT = [
    dict(bbox=[1, 2, 11, 22], label=0, category='cat'),
    dict(bbox=[5, 5, 10, 10], label=1, category='dog'),
]


@pytest.mark.parametrize(
    'tool, source, flags, filename, out, label_map',
    [
        ('coco2odvg', 'train.json', ['-d', 'coco'], 'a/b/5.jpg', 'train_od.json', 'coco2017_label_map.json'),
        ('coco2odvg', 'cat.json', [], 'a/b/5.jpg', 'cat_od.json', 'cat_label_map.json'),
        ('coco2odvg', 'x.json', ['-d', 'o365v1'], 'a/b/5.jpg', 'o365v1_train_odvg.json', 'o365v1_label_map.json'),
        ('coco2odvg', 'x.json', ['-d', 'o365v2'], 'b/5.jpg', 'x_od.json', 'o365v2_label_map.json'),
        ('v3det2odvg', 'v3.json', [], 'a/b/5.jpg', 'v3_od.json', 'v3det_2023_v1_label_map.json'),
        ('lvis2odvg', 'lvis_v1_train.json', [], 'train2017/5.jpg', 'lvis_v1_train_od.json', 'lvis_v1_label_map.json'),
        (
            'lvis2odvg',
            'lvis_v1_train_norare.json',
            [],
            'train2017/5.jpg',
            'lvis_v1_train_od_norare.json',
            'lvis_v1_label_map_norare.json',
        ),
    ],
)
def test_boxes_of_coco_files(tmp_path, capsys, tool, source, flags, filename, out, label_map):
    content = coco(BOXES, CATEGORIES, coco_url='http://images.cocodataset.org/train2017/5.jpg')
    (tmp_path / source).write_text(json.dumps(content))
    convert(tool, tmp_path / source, *flags)
    assert lines(tmp_path / out) == [
        dict(filename=filename, height=60, width=80, detection=dict(instances=KEPT)),
    ]
    assert json.loads((tmp_path / label_map).read_text()) == {'0': 'cat', '1': 'dog'}
    assert '1 pictures, 2 boxes, 3 left out' in capsys.readouterr().out
    data = ODVGDataset(
        data_root=str(tmp_path), ann_file=out, label_map_file=label_map, data_prefix=dict(img=''), return_classes=True
    )
    assert len(data.get_data_info(0)['instances']) == 2


def test_a_place_for_the_output(tmp_path):
    (tmp_path / 'in.json').write_text(json.dumps(coco(BOXES, CATEGORIES)))
    convert('coco2odvg', tmp_path / 'in.json', '-d', 'coco', '-o', tmp_path / 'new' / 'out.json')
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['coco2017_label_map.json', 'out.json']


@pytest.mark.parametrize(
    'content, words',
    [
        (coco([([1, 2, 3, 4], 9)], CATEGORIES), 'annotation 1 has category 9'),
        (coco([([1, 2, 3], 3)], CATEGORIES[:1]) | dict(images=[dict(id=1)]), "no key 'file_name'"),
        (coco([([1, 2, 'x', 4], 3, ('area', 1))], CATEGORIES), 'annotation 1: bbox is'),
        (coco([], CATEGORIES, width=0), 'image 5 has the size 0x60'),
        (dict(images=[]), "no key 'categories'"),
    ],
)
def test_files_that_cannot_be_converted(tmp_path, content, words):
    (tmp_path / 'in.json').write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        convert('coco2odvg', tmp_path / 'in.json', '-d', 'coco')
    assert words in str(caught.value) and 'in.json' in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ['in.json']  # nothing half-written


CAPTION = 'A cat and two dogs'


def captioned(*boxes):
    return coco(boxes, [dict(id=1, name='object')], caption=CAPTION)


@pytest.mark.parametrize(
    'tool, source, folder',
    [('goldg2odvg', 'flickr_train.json', False), ('refcoco2odvg', 'finetune_refcoco+_train.json', True)],
)
def test_phrases_of_captions(tmp_path, tool, source, folder):
    content = captioned(
        ([1, 2, 10, 20], 1, ('tokens_positive', [[2, 5]])),
        ([1, 1, 5, 5], 1, ('tokens_positive', [[14, 18]])),
        ([8, 8, 5, 5], 1, ('tokens_positive', [[14, 18]])),
        ([0, 0, 0, 0], -1, ('tokens_positive', [])),
        ([3, 3, 9, 9], 1),
    )
    (tmp_path / source).write_text(json.dumps(content))
    convert(tool, tmp_path if folder else tmp_path / source)
    (line,) = lines(tmp_path / source.replace('.json', '_vg.json'))
    assert line['grounding'] == dict(
        caption=CAPTION,
        regions=[
            dict(bbox=[[1, 2, 11, 22]], phrase='cat', tokens_positive=[[2, 5]]),
            dict(bbox=[[1, 1, 6, 6], [8, 8, 13, 13]], phrase='dogs', tokens_positive=[[14, 18]]),
            dict(bbox=[[3, 3, 12, 12]], phrase=CAPTION, tokens_positive=[[0, 18]]),
        ],
    )
    (tmp_path / source).write_text(json.dumps(captioned(([1, 2, 10, 20], 1, ('tokens_positive', [[2, 99]])))))
    with pytest.raises(UserError, match=r'annotation 1: tokens_positive has \[2, 99\]'):
        convert(tool, tmp_path if folder else tmp_path / source)


def test_no_expressions(tmp_path):
    with pytest.raises(UserError, match='none of finetune_refcoco_train'):
        convert('refcoco2odvg', tmp_path)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((60, 80, 3), 200, np.uint8))


def test_grit(tmp_path):
    chunks = [[2, 5, 0.1, 0.1, 0.5, 0.5, 0.9], [10, 18, 0, 0, 0.5, 1, 0.8], [10, 18, 0.5, 0, 1, 1, 0.7]]
    content = dict(caption=CAPTION, width=80, height=60, ref_exps=chunks, noun_chunks=[[2, 5, 0, 0, 0.001, 1, 0.9]])
    for name in ('00000/1', '00000/2'):  # the second has no picture
        (tmp_path / 'annotations' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'annotations' / f'{name}.json').write_text(json.dumps(content))
    picture(tmp_path / 'images' / '00000' / '1.jpg')
    convert('grit2odvg', tmp_path)
    (line,) = lines(tmp_path / 'grit20m_vg.json')
    assert (line['filename'], line['height'], line['width']) == ('images/00000/1.jpg', 60, 80)
    assert [(region['phrase'], region['bbox']) for region in line['grounding']['regions']] == [
        ('cat', [[8, 6, 40, 30]]),
        ('two dogs', [[0, 0, 40, 60], [40, 0, 80, 60]]),
    ]
    convert('grit2odvg', tmp_path, '--key', 'noun_chunks', '-o', tmp_path / 'nouns.json')  # a box of 0.08 pixels
    assert lines(tmp_path / 'nouns.json') == []


def pack(path, **members):
    with tarfile.open(path, 'w') as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace('_', '.'))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_parts_of_grit(tmp_path, capsys):
    raw, out = tmp_path / 'grit raw', tmp_path / 'grit'
    picture(raw / 'x.jpg')
    pixels = (raw / 'x.jpg').read_bytes()
    content = dict(caption=CAPTION, width=80, height=60, ref_exps=[[2, 5, 0.1, 0.1, 0.5, 0.5, 0.9]], status='success')
    note, failed = json.dumps(content).encode(), json.dumps(dict(content, status='failed_to_download')).encode()
    outside = {'../../../evil_json': note, '../../../evil_jpg': pixels}
    pack(
        raw / '00000.tar', a_jpg=pixels, a_json=note, a_txt=b'x', b_json=failed, c_jpg=pixels, c_json=failed, **outside
    )
    pack(raw / '00001.tar', a_jpg=pixels, a_json=note)
    (raw / '00000_stats.json').write_text('{"successes": 2}')
    log = tmp_path / 'log.txt'
    module = loaded('dataset_converters/grit_processing')
    assert module.main([str(raw), str(out), '--log-name', str(log)]) == 0
    files = sorted(str(path.relative_to(out)) for path in out.rglob('*') if path.is_file())
    stems = ['00000/a', '00000/evil', '00001/a']
    assert files == [f'annotations/{stem}.json' for stem in stems] + [f'images/{stem}.jpg' for stem in stems]
    assert not list(tmp_path.glob('evil*'))
    assert log.read_text() == f'{raw}/00000.tar: 2 pictures\n{raw}/00001.tar: 1 pictures\n'
    convert('grit2odvg', out)
    assert [line['filename'] for line in lines(out / 'grit20m_vg.json')] == [f'images/{stem}.jpg' for stem in stems]

    capsys.readouterr()
    (raw / '00001.tar').write_bytes((raw / '00001.tar').read_bytes()[:700])
    (raw / '00000_stats.json').write_text('{"successes": 9}')
    assert module.main([str(raw), str(out)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith('00000.tar: 2 pictures, of 9 that 00000_stats.json tells of')
    assert '00001.tar: cannot be read to its end' in second
    with pytest.raises(UserError, match='has no part of GRIT'):
        module.main([str(out), str(out)])


def test_open_images(tmp_path):
    notes = tmp_path / 'annotations'
    notes.mkdir()
    (notes / 'class-descriptions-boxable.csv').write_text('/m/1,Tortoise\n/m/2,"Cat, wild"\n')
    header = 'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n'
    rows = 'p,x,/m/2,1,0.1,0.5,0.2,0.6,0\np,x,/m/1,1,0,1,0,1,1\nq,x,/m/1,1,0,1,0,1,0\n'
    (notes / 'oidv6-train-annotations-bbox.csv').write_text(header + rows)
    picture(tmp_path / 'OpenImages' / 'train' / 'p.jpg')
    convert('openimages2odvg', notes)
    (line,) = lines(notes / 'oidv6-train-annotations_od.json')
    assert line['filename'] == 'p.jpg'
    assert line['detection']['instances'] == [dict(bbox=[8, 12, 40, 36], label=1, category='Cat, wild')]
    assert json.loads((notes / 'openimages_label_map.json').read_text()) == {'0': 'Tortoise', '1': 'Cat, wild'}
    (notes / 'oidv6-train-annotations-bbox.csv').write_text(header + rows.replace('/m/1', '/m/9'))
    with pytest.raises(UserError, match="line 3: '/m/9'"):
        convert('openimages2odvg', notes)


def test_classes_to_train_with_and_new_ones(tmp_path):
    folder = tmp_path / 'annotations'
    folder.mkdir()
    from mmdet.utils.class_names import COCO_CLASSES

    categories = [dict(id=i, name=name) for i, name in enumerate(COCO_CLASSES, 1)]
    ids = {category['name']: category['id'] for category in categories}
    for split in ('train', 'val'):
        content = coco([([1, 1, 9, 9], ids['cat']), ([1, 1, 9, 9], ids['stop sign'])], categories)
        content['images'] += [dict(id=i, file_name=f'{i}.jpg', height=60, width=80) for i in (6, 7)]
        content['annotations'].append(dict(id=9, image_id=6, bbox=[1, 1, 9, 9], category_id=ids['dog']))
        content['annotations'].append(dict(id=10, image_id=6, bbox=[1, 1, 9, 9], category_id=ids['person']))
        (folder / f'instances_{split}2017.json').write_text(json.dumps(content))
    convert('coco2ovd', tmp_path)
    seen = json.loads((folder / 'instances_train2017_seen_2.json').read_text())
    every = json.loads((folder / 'instances_val2017_all_2.json').read_text())
    assert (len(seen['categories']), len(every['categories'])) == (48, 65)
    assert [image['id'] for image in seen['images']] == [6] and [entry['id'] for entry in seen['annotations']] == [10]
    assert [image['id'] for image in every['images']] == [5, 6] and len(every['annotations']) == 3
    assert {category['split'] for category in every['categories']} == {'seen', 'unseen'}
    with pytest.raises(UserError, match='must be the folder of COCO'):
        convert('coco2ovd', folder)


def test_without_rare_classes(tmp_path):
    (tmp_path / 'annotations').mkdir()
    content = coco(BOXES, CATEGORIES, coco_url='http://x/train2017/5.jpg')
    (tmp_path / 'annotations' / 'lvis_v1_train.json').write_text(json.dumps(content))
    convert('lvis2ovd', tmp_path)
    found = json.loads((tmp_path / 'annotations' / 'lvis_v1_train_norare.json').read_text())
    assert [category['name'] for category in found['categories']] == ['cat'] and len(found['annotations']) == 1
    assert len(found['images']) == 1
    with pytest.raises(UserError, match='must be the folder of COCO'):
        convert('lvis2ovd', tmp_path / 'annotations')


# ----------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def odvg(tmp_path):
    root = tmp_path / 'data'
    for number in range(1, 6):
        picture(root / 'train' / f'{number}.jpg')
    boxes = [dict(bbox=[1, 2, 30, 40], label=1, category='dog')]
    spans = [dict(bbox=[[1, 2, 30, 40]], phrase='cat', tokens_positive=[[2, 5]])]
    for name, fields in (
        ('od.json', dict(detection=dict(instances=boxes))),
        ('vg.json', dict(grounding=dict(caption=CAPTION, regions=spans))),
    ):
        rows = [dict(filename=f'{i}.jpg', height=60, width=80, **fields) for i in range(1, 6)]
        (root / name).write_text(''.join(json.dumps(row) + '\n' for row in rows))
    (root / 'map.json').write_text('{"0": "cat", "1": "dog"}')
    return root


def test_a_few_pictures_of_a_data_set(odvg, tmp_path):
    out = tmp_path / 'few'
    run('misc/split_odvg', odvg, 'od.json', 'train', out, '-m', 'map.json', '-n', 2)
    kept = [line['filename'] for line in lines(out / 'od.json')]
    assert len(kept) == 2 and sorted(path.name for path in (out / 'train').iterdir()) == sorted(kept)
    assert (out / 'map.json').read_text() == (odvg / 'map.json').read_text()
    run('misc/split_odvg', odvg, 'vg.json', 'train', tmp_path / 'all', '-n', 99)
    assert len(lines(tmp_path / 'all' / 'vg.json')) == 5
    (odvg / 'train' / '1.jpg').unlink()
    with pytest.raises(UserError, match=r'1\.jpg, which does not exist'):
        run('misc/split_odvg', odvg, 'vg.json', 'train', tmp_path / 'all', '-n', 99)
    with pytest.raises(UserError, match='at least 1'):
        run('misc/split_odvg', odvg, 'vg.json', 'train', tmp_path / 'all', '-n', 0)


@pytest.mark.parametrize('name, flags, taller', [('od.json', ['-m', 'map.json'], False), ('vg.json', [], True)])
def test_pictures_of_a_file(odvg, tmp_path, name, flags, taller, capsys):
    run('analysis_tools/browse_grounding_raw', odvg, name, 'train', *flags, '--not-show', '-o', tmp_path / 'o', '-n', 2)
    shapes = [cv2.imread(str(path)).shape for path in (tmp_path / 'o').iterdir()]
    assert len(shapes) == 2 and all((shape[0] > 60) == taller and shape[1] == 80 for shape in shapes)
    assert '2 of 5' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='nothing to do'):
        run('analysis_tools/browse_grounding_raw', odvg, name, 'train', '--not-show')


@pytest.mark.parametrize('name, labels', [('od.json', 'map.json'), ('vg.json', None)])
def test_pictures_and_prompts_of_a_config(odvg, tmp_path, name, labels, capsys):
    transformers = pytest.importorskip('transformers')
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'cat', 'dog', '.']
    (tmp_path / 'vocab.txt').write_text('\n'.join(words))
    transformers.BertTokenizerFast(str(tmp_path / 'vocab.txt')).save_pretrained(tmp_path / 'bert')
    keys = ('img_path', 'text', 'tokens_positive')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomSamplingNegPos', tokenizer_name=str(tmp_path / 'bert'), num_sample_negative=1),
        dict(type='PackDetInputs', meta_keys=keys),
    ]
    dataset = dict(
        type='ODVGDataset',
        data_root=str(odvg),
        ann_file=name,
        label_map_file=labels,
        data_prefix=dict(img='train'),
        return_classes=True,
        pipeline=pipeline,
    )
    (tmp_path / 'config.py').write_text(f'train_dataloader = dict(dataset={dataset!r})\n')
    run('analysis_tools/browse_grounding_dataset', tmp_path / 'config.py', '--not-show', '-o', tmp_path / 'o', '-n', 2)
    shapes = [cv2.imread(str(path)).shape for path in (tmp_path / 'o').iterdir()]
    assert len(shapes) == 2 and all(shape[0] > 60 and shape[1] == 80 for shape in shapes)
    assert '2 of 5' in capsys.readouterr().out

"""Missing pictures are known before the first iteration, and errors name the picture."""

import json

import pytest

from mmdet.datasets.presence import FEW, missing_files
from mmdet.engine import DetRunner
from mmdet.registry import DATASETS


@pytest.mark.parametrize('count', [3, FEW + 3])
def test_missing_files(count, tmp_path):
    paths = [str(tmp_path / f'{i}.jpg') for i in range(count)]
    for path in paths[1:]:
        open(path, 'w').close()
    nowhere = [str(tmp_path / 'nowhere' / f'{i}.jpg') for i in range(count)]
    assert missing_files(paths) == paths[:1]
    assert missing_files(nowhere) == nowhere
    assert missing_files([]) == []


@pytest.fixture
def dataset(tmp_path, default_scope):
    """Of two pictures, of which one is there."""
    (tmp_path / '0.jpg').touch()
    images = [dict(id=i, file_name=f'{i}.jpg', width=9, height=9) for i in range(2)]
    boxes = [dict(id=i + 1, image_id=i, category_id=0, bbox=[1, 1, 5, 5], area=25) for i in range(2)]
    content = dict(images=images, annotations=boxes, categories=[dict(id=0, name='a')])
    (tmp_path / 'a.json').write_text(json.dumps(content))

    def make(*pipeline, **options):
        kind = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', metainfo=dict(classes=('a',)))
        return DATASETS.build(dict(kind, pipeline=list(pipeline), data_prefix=dict(img=''), **options))

    return make


def test_a_data_set_knows_what_it_lacks(dataset):
    found = dataset(dict(type='LoadImageFromFile'))
    assert len(found) == 2
    with pytest.raises(FileNotFoundError, match=r"^1 of 2 pictures of '.*a.json' do not exist, such as '.*1.jpg'$"):
        found.require_pictures()
    moved = dataset(dict(type='LoadImageFromFile'), lazy_init=True)
    moved.data_prefix['img'] += '/elsewhere'
    moved.full_init()
    with pytest.raises(FileNotFoundError, match=r'2 of 2 .*nor is there a folder .*elsewhere.: look at data_prefix'):
        moved.require_pictures()


@pytest.mark.parametrize('wrap', [lambda x: x, lambda x: dict(type='RepeatDataset', times=2, dataset=x), lambda x: [x]])
@pytest.mark.parametrize('workers', [0, 1])
def test_the_runner_asks_before_the_first_iteration(wrap, workers, dataset, tmp_path):
    found = dataset(dict(type='LoadImageFromFile'))
    data = dict(type='CocoDataset', ann_file=found.ann_file, metainfo=dict(classes=('a',)))
    data.update(data_prefix=dict(img=str(tmp_path)), pipeline=[dict(type='LoadImageFromFile')])
    loader = dict(batch_size=1, num_workers=workers, sampler=dict(type='DefaultSampler'), dataset=wrap(data))
    with pytest.raises(FileNotFoundError, match=r'^1 of 2 pictures'):
        DetRunner.build_dataloader(loader)


@pytest.mark.parametrize(
    'pipeline',
    [
        [],
        [dict(type='LoadImageFromNDArray')],
        [dict(type='LoadImageFromFile', ignore_empty=True)],
        [dict(type='LoadImageFromFile', backend_args=dict(backend='http'))],
    ],
)
def test_pipelines_that_do_without(pipeline, dataset):
    dataset(*pipeline).require_pictures()


def test_what_fails_in_a_transform_names_the_picture(dataset):
    """Faults of the program keep their type and traceback."""

    def fails(results):
        raise ZeroDivisionError('no area')

    with pytest.raises(ZeroDivisionError) as caught:
        dataset(fails)[1]
    assert not hasattr(caught.value, '__notes__') or caught.value.__notes__[0].endswith('1.jpg')


def test_indices_are_taken_first(dataset):
    dataset(dict(type='LoadImageFromFile'), indices=[0]).require_pictures()

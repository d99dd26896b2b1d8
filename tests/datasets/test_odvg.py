import json

import cv2
import numpy as np
import pytest

from mmdet.checks.dataset_doctor import read_split
from mmdet.datasets import ClassBalancedDataset, ConcatDataset, ODVGDataset
from mmdet.errors import UserError, UserFileError, UserValueError

LABELS = {'0': 'cat', '1': 'dog', '10': 'cow', '2': 'tv/monitor'}
CAPTION = 'A man in a hat and two dogs'


def line(name='1.jpg', **fields):
    return dict(filename=name, height=60, width=80, **fields)


def detection(*boxes):
    return dict(instances=[dict(bbox=box, label=label, category=LABELS[str(label)]) for label, box in boxes])


def grounding(*regions, caption=CAPTION):
    return dict(
        caption=caption,
        regions=[
            dict(bbox=box, phrase=' '.join(caption[s:e] for s, e in spans), tokens_positive=spans)
            for spans, box in regions
        ],
    )


@pytest.fixture
def odvg(tmp_path):
    def write(*lines, labels=None, **kwargs):
        text = '\n'.join(each if isinstance(each, str) else json.dumps(each) for each in lines)
        (tmp_path / 'train_od.json').write_text(text + '\n')
        for number in range(1, 4):
            cv2.imwrite(str(tmp_path / f'{number}.jpg'), np.full((60, 80, 3), 40 * number, np.uint8))
        if labels is not None:
            (tmp_path / 'labels.json').write_text(json.dumps(labels))
            kwargs['label_map_file'] = 'labels.json'
        kwargs = dict(return_classes=True, data_prefix=dict(img='')) | kwargs
        return ODVGDataset(data_root=str(tmp_path), ann_file='train_od.json', **kwargs)

    return write


def boxes_of(sample):
    return [(instance['bbox_label'], instance['bbox']) for instance in sample['instances']]


def test_detection_has_the_names_of_all_classes(odvg):
    data = odvg(
        line(detection=detection((1, [1, 2, 30, 40]), (10, [5.5, 5, 8, 9]))),
        '',
        line('2.jpg', detection=detection()),
        line('3.jpg'),
        labels=LABELS,
    )
    samples = [data.get_data_info(i) for i in range(3)]
    assert [boxes_of(sample) for sample in samples] == [[(1, [1, 2, 30, 40]), (10, [5.5, 5, 8, 9])], [], []]
    assert list(samples[0]['text'].values()) == ['cat', 'dog', 'tv/monitor', 'cow']  # by number, not by letters
    assert samples[1]['dataset_mode'] == 'OD' and samples[1]['img_path'].endswith('2.jpg')
    assert (samples[0]['height'], samples[0]['width']) == (60, 80)
    samples[0]['text']['0'] = 'changed by a transform'
    assert data.get_data_info(0)['text']['0'] == 'cat'
    assert data.get_cat_ids(0) == [1, 10]
    assert 'text' not in odvg(line(), labels=LABELS, need_text=False).get_data_info(0)


def test_grounding_has_a_caption_and_its_phrases(odvg):
    data = odvg(
        line(
            grounding=grounding(
                ([[0, 5]], [1, 2, 30, 40]), ([[23, 27]], [[1, 1, 9, 9], [20, 20, 60, 50]]), ([[2, 5], [9, 14]], [])
            )
        )
    )
    sample = data.get_data_info(0)
    assert sample['text'] == CAPTION and sample['dataset_mode'] == 'VG'
    assert boxes_of(sample) == [(0, [1, 2, 30, 40]), (1, [1, 1, 9, 9]), (1, [20, 20, 60, 50])]
    assert sample['phrases'] == {
        0: dict(phrase='A man', tokens_positive=[[0, 5]]),
        1: dict(phrase='dogs', tokens_positive=[[23, 27]]),
        2: dict(phrase='man a hat', tokens_positive=[[2, 5], [9, 14]]),
    }


@pytest.mark.parametrize(
    'box, kind',
    [
        ([80, 0, 99, 9], 'box outside'),
        ([-9, 0, 0, 9], 'box outside'),
        ([5, 5, 5.5, 9], 'thinner than a pixel'),
        ([5, 5, 5, 9], 'degenerate box'),
        ([9, 5, 5, 9], 'degenerate box'),
    ],
)
@pytest.mark.parametrize('mode', ['OD', 'VG'])
def test_boxes_that_nothing_learns_from_are_left_out_and_counted(odvg, box, kind, mode):
    good = [-3, 5, 20, 99]
    if mode == 'OD':
        data = odvg(line(detection=detection((0, box), (1, good))), labels=LABELS)
    else:
        data = odvg(line(grounding=grounding(([[0, 5]], [box, good]))))
    assert [each for _, each in boxes_of(data.get_data_info(0))] == [good]
    assert data.report.of('left out') == {kind: 1}


REGION = dict(phrase='A man', bbox=[1, 1, 9, 9])


@pytest.mark.parametrize(
    'written, labels, words',
    [
        ('{"filename": "1.jpg", ', LABELS, 'line 1: not valid JSON'),
        ('[1, 2]', LABELS, 'line 1: [1, 2], not an object'),
        (json.dumps(dict(images=[], annotations=[])), LABELS, 'coco2odvg.py converts it'),
        (json.dumps(dict(filename='1.jpg', height=60)), LABELS, "line 1 has no key 'width'"),
        (line() | dict(width=-4), LABELS, 'line 1: width x height is -4x60'),
        (line(detection=[]), LABELS, 'line 1: detection is []'),
        (line(detection=dict(instances=[7])), LABELS, 'line 1, object 1: 7, not an object'),
        (line(detection=dict(instances=[dict(label=0, bbox=[1, 2, 3])])), LABELS, 'object 1: bbox is [1, 2, 3]'),
        (line(detection=dict(instances=[dict(label=0, bbox=[1, 2, 3, 'nan'])])), LABELS, 'object 1: bbox is'),
        (line(detection=dict(instances=[dict(label='cat', bbox=[1, 2, 3, 4])])), LABELS, "label is 'cat'"),
        (line(detection=dict(instances=[dict(label=4, bbox=[1, 2, 3, 4])])), LABELS, 'label 4 is not in'),
        (line(grounding=grounding()), LABELS, 'leave out label_map_file'),
        (line(detection=detection()), None, "no key 'grounding'"),
        (line(grounding=dict(regions=[])), None, 'not an object with caption and regions'),
        (line(grounding=dict(caption='A man', regions=[REGION])), None, 'region 1: tokens_positive is None'),
        (
            line(grounding=dict(caption='A man', regions=[REGION | dict(tokens_positive=[[0, 6]])])),
            None,
            "[0, 6], which is no span of the 5 letters of 'A man'",
        ),
        (
            line(grounding=dict(caption='A man', regions=[REGION | dict(tokens_positive=[0, 5])])),
            None,
            'tokens_positive has 0 where [start, end] belongs',
        ),
        (line(), {'cat': '0'}, "'cat': '0' is no entry of a label map"),
        (line(), [1], 'labels.json'),
    ],
)
def test_what_cannot_be_read_is_told_with_file_and_line(odvg, written, labels, words):
    with pytest.raises(UserError) as caught:
        odvg(written, labels=labels)
    assert words in str(caught.value)
    assert 'train_od.json' in str(caught.value) or 'labels.json' in str(caught.value)


def test_arguments_that_do_not_fit(odvg, tmp_path):
    with pytest.raises(UserValueError, match='return_classes=True'):
        odvg(line(), labels=LABELS, return_classes=False)
    with pytest.raises(UserFileError, match=r'absent.json.* does not exist'):
        ODVGDataset(data_root=str(tmp_path), ann_file='absent.json', data_prefix=dict(img=''), return_classes=True)


def test_filters_and_wrappers(odvg):
    lines = [line(detection=detection((0, [1, 2, 30, 40]))), line('2.jpg', detection=detection())]
    data = odvg(*lines, labels=LABELS, filter_cfg=dict(filter_empty_gt=True))
    assert len(data) == 1
    whole = odvg(*lines, labels=LABELS, filter_cfg=dict(filter_empty_gt=False))
    assert len(whole) == 2
    assert len(ClassBalancedDataset(data, 1e-3)) == 1
    text = odvg(line(grounding=grounding(([[0, 5]], [1, 2, 30, 40]))))
    both = ConcatDataset([whole, text])
    assert len(both) == 3 and both.get_data_info(2)['dataset_mode'] == 'VG'


def test_the_doctor_reads_it(odvg, tmp_path):
    odvg(line(detection=detection((1, [1, 2, 30, 40]), (0, [99, 2, 120, 40]))), labels=LABELS)
    cfg = dict(
        type='ODVGDataset',
        data_root=str(tmp_path),
        ann_file='train_od.json',
        label_map_file='labels.json',
        data_prefix=dict(img=''),
        return_classes=True,
    )
    split = read_split(cfg, 'train', 'train_dataloader.dataset')
    assert split.counts() == {'dog': 1} and split.categories == ['cat', 'dog', 'tv/monitor', 'cow']
    assert [(problem.kind, problem.picture.path) for problem in split.problems] == [
        ('box outside', str(tmp_path / '1.jpg'))
    ]
    assert '1.jpg: object 2 has the box [99, 2, 120, 40]' in str(split.problems[0])
    (tmp_path / 'train_od.json').write_text('{')
    broken = read_split(cfg, 'train', 'train_dataloader.dataset')
    assert [problem.kind for problem in broken.problems] == ['unreadable file']

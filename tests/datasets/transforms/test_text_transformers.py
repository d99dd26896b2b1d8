import pickle
import random
import re
from collections import Counter

import numpy as np
import pytest

from mmdet.datasets.transforms import GTBoxSubOne_GLIP, LoadTextAnnotations, RandomFlip_GLIP, RandomSamplingNegPos
from mmdet.datasets.transforms.text_transformers import (
    check_for_positive_overflow,
    clean_name,
    generate_senetence_given_labels,
)
from mmdet.errors import UserError, UserFileError
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.utils.tokenizers import load_tokenizer

NAMES = {'0': 'cat', '1': 'hot_dog (food)', '2': 'tv/monitor', '3': 'polar bear', '4': 'cow'}


class Words:
    """A token for each word and full stop."""

    def tokenize(self, text):
        return text.replace('.', ' .').split()

    def __call__(self, text, return_offsets_mapping):
        return dict(offset_mapping=[(0, 0), *(match.span() for match in re.finditer(r'[^\s.]+|\.', text)), (0, 0)])


def sampler(**kwargs):
    transform = RandomSamplingNegPos('words', **kwargs)
    transform.tokenizer = Words()
    return transform


def sample(*labels, **fields):
    boxes = np.array([[label, 0, label + 9, 9] for label in labels], dtype=np.float32).reshape(-1, 4)
    return dict(
        gt_bboxes=HorizontalBoxes(boxes),
        gt_bboxes_labels=np.array(labels, dtype=np.int64),
        gt_ignore_flags=np.zeros(len(labels), dtype=bool),
        text=dict(NAMES),
        **fields,
    )


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)


@pytest.mark.parametrize(
    'name, clean',
    [
        ('Hot_dog (food)', 'hot dog '),
        ('a (b) c (d)', 'a '),
        ('Two  spaces', 'two spaces'),
        ('', ''),
        ('Ünder_Öl', 'ünder öl'),
    ],
)
def test_names_of_prompts(name, clean):
    assert clean_name(name) == clean


def test_a_prompt_of_names():
    spans, prompt, places = generate_senetence_given_labels([3, 0], ['4'], NAMES)
    assert sorted(prompt.split('. ')) == ['', 'cat', 'cow', 'polar bear']
    assert {label: prompt[slice(*spans[place][0])] for label, place in places.items()} == {3: 'polar bear', 0: 'cat'}
    assert all(prompt.split('. ')[place] == prompt[slice(*spans[place][0])] for place in spans)
    assert generate_senetence_given_labels([], [], NAMES) == ({}, '', {})


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('labels', [(), (0,), (3, 1, 3), (0, 1, 2, 3, 4)])
def test_every_box_keeps_its_name(labels, seed):
    random.seed(seed)
    np.random.seed(seed)
    results = sampler(num_sample_negative=3).transform(sample(*labels))
    names = results['text'].split('. ')[:-1]
    assert len(set(names)) == len(names)
    for label, place in zip(labels, results['gt_bboxes_labels'].tolist(), strict=True):
        (start, end), *others = results['tokens_positive'][place]
        assert not others and results['text'][start:end] == names[place]
        assert names[place] in {clean_name(each.strip()) for each in NAMES[str(label)].split('/')}
    assert set(results['tokens_positive']) == set(results['gt_bboxes_labels'].tolist())
    assert results['gt_bboxes_labels'].dtype == np.int64
    absent = [i for i in range(len(names)) if i not in results['tokens_positive']]
    assert len(absent) <= 3


@pytest.mark.parametrize('prob, counts', [(1.0, {3}), (0.0, {1, 2, 3})])
def test_how_many_absent_classes_are_named(prob, counts):
    transform = sampler(num_sample_negative=3, full_sampling_prob=prob)
    found = Counter(transform.transform(sample())['text'].count('. ') for _ in range(60))
    assert set(found) == counts


def test_what_does_not_fit_is_left_out_with_its_boxes():
    # 'cat .' has 2 tokens, 'polar bear .' 3
    kept = Counter()
    for _ in range(20):
        results = sampler(max_tokens=3, full_sampling_prob=1.0).transform(sample(0, 3, 0))
        text = results['text'].strip('. ')
        kept[text, len(results['gt_bboxes']), len(results['gt_ignore_flags']), len(results['gt_bboxes_labels'])] += 1
    assert set(kept) == {('cat', 2, 2, 2), ('polar bear', 1, 1, 1)}
    boxes, labels, length = check_for_positive_overflow(np.eye(4), np.array([0, 3, 3, 0]), NAMES, Words(), 5)
    assert len(boxes) == 4 and labels.tolist() == [0, 3, 3, 0] and length == 5


def test_absent_classes_have_the_tokens_that_are_left():
    for _ in range(20):
        text = sampler(max_tokens=7, full_sampling_prob=1.0).transform(sample(0))['text']
        assert len(Words().tokenize(text)) < 7


def test_a_class_left_out_for_want_of_room_is_not_named_as_absent():
    for _ in range(40):
        results = sampler(max_tokens=5, num_sample_negative=5, full_sampling_prob=1.0).transform(sample(3, 1))
        assert len(results['tokens_positive']) == 1
        assert not {'polar bear', 'hot dog '} <= set(results['text'].split('. '))


@pytest.mark.parametrize('caption, prompt', [('A Man.', 'a man.'), ('A Man ', 'a man. '), ('İ Man', 'İ man. ')])
def test_captions_keep_the_places_of_their_letters(caption, prompt):
    phrases = {0: dict(phrase='x', tokens_positive=[[2, 5]]), 1: dict(phrase='y', tokens_positive=[[0, 1]])}
    results = sampler().transform(sample(0, 0) | dict(text=caption, phrases=phrases))
    assert results['text'] == prompt and results['tokens_positive'] == {0: [[2, 5]]}
    assert results['gt_bboxes_labels'].tolist() == [0, 0]


def test_phrases_that_are_not_read_are_left_out_with_their_boxes():
    places = [[[0, 5]], [[6, 9], [14, 19]], [[10, 13]], [[5, 6]]]  # a big, man sings, and, a space
    phrases = {label: dict(phrase='x', tokens_positive=place) for label, place in enumerate(places)}
    caption = dict(text='a big man and sings', phrases=phrases)
    for tokens, kept in ((7, [0, 1, 2]), (5, [0, 1]), (4, [0]), (2, [])):
        results = sampler(max_tokens=tokens).transform(sample(3, 0, 1, 2, 0) | caption)
        assert results['gt_bboxes_labels'].tolist() == [label for label in (0, 1, 2, 0) if label in kept]
        assert len(results['gt_bboxes']) == len(results['gt_bboxes_labels'])
        assert results['tokens_positive'] == {label: places[label] for label in kept}


def test_names_from_a_file(tmp_path):
    (tmp_path / 'map.json').write_text('{"0": "cat", "1": "dog"}')
    transform = sampler(label_map_file=str(tmp_path / 'map.json'), full_sampling_prob=1.0)
    results = sample(1)
    del results['text']
    assert set(transform.transform(results)['text'].strip().split('. ')) == {'cat', 'dog.'} or 'cat' in results['text']
    results = sample(7)
    with pytest.raises(UserError, match='label 7 has no name'):
        transform.transform(results)
    results.pop('text')
    with pytest.raises(UserError, match='label_map_file'):
        sampler().transform(results)


def test_what_detectors_take_in_testing():
    assert LoadTextAnnotations()(sample())['text'] == list(NAMES.values())
    phrases = {0: dict(phrase='x', tokens_positive=[[2, 5]]), 1: dict(phrase='y', tokens_positive=[[0, 1]])}
    assert LoadTextAnnotations()(dict(text='A man', phrases=phrases))['tokens_positive'] == [[[2, 5]], [[0, 1]]]
    with pytest.raises(UserError, match='needs phrases'):
        LoadTextAnnotations()(dict(text='A man'))


def test_a_tokenizer_that_is_not_there_is_told_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip('transformers')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(UserFileError, match='hf download no-such/model'):
        load_tokenizer('no-such/model')
    with pytest.raises(UserFileError, match='lacks its words'):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_of_a_folder(tmp_path):
    transformers = pytest.importorskip('transformers')
    (tmp_path / 'vocab.txt').write_text('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'cat', '.', 'dog']))
    transformers.BertTokenizerFast(str(tmp_path / 'vocab.txt')).save_pretrained(tmp_path)
    transform = RandomSamplingNegPos(str(tmp_path))
    assert pickle.loads(pickle.dumps(transform)).transform(sample(0))['tokens_positive']


# ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', [HorizontalBoxes, np.array])
def test_boxes_of_glip_hold_their_last_pixel(kind):
    given = kind(np.array([[1, 2, 11, 22]], dtype=np.float32))
    found = GTBoxSubOne_GLIP()(dict(gt_bboxes=given))['gt_bboxes']
    assert type(found) is type(given)
    assert np.array_equal(getattr(found, 'tensor', found), [[1, 2, 10, 21]])
    assert np.array_equal(getattr(given, 'tensor', given), [[1, 2, 11, 22]])
    assert GTBoxSubOne_GLIP()(dict(a=1)) == dict(a=1)


@pytest.mark.parametrize(
    'direction, box', [('horizontal', [69, 2, 78, 21]), ('vertical', [1, 39, 10, 58]), ('diagonal', [70, 39, 79, 58])]
)
def test_flips_of_glip(direction, box):
    results = dict(img=np.zeros((60, 80, 3), np.uint8), gt_bboxes=HorizontalBoxes([[1.0, 2, 10, 21]]))
    found = RandomFlip_GLIP(prob=1.0, direction=direction)(results)
    assert found['gt_bboxes'].tensor.tolist() == [box]

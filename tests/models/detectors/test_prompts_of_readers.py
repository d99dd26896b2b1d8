"""Names and sentences drawn from awkward pieces: every name has its own tokens, or there is one clear error."""

import random
import sys
import types

import numpy as np
import pytest
import torch
from readers import READERS, pictures

from mmdet.datasets.transforms import RandomSamplingNegPos
from mmdet.errors import UserError
from mmdet.structures.bbox import HorizontalBoxes

pytestmark = pytest.mark.usefixtures('default_scope')

# plural forms, repeated and nested names, punctuation, other scripts, letters of no or several signs, nothing at all
PIECES = [
    *('cat', 'cats', 'dog', 'red', 'red light', 'light', 'traffic light', 'the', 'a', 'buses', 'T-shirt', "cat's"),
    *('Zürich', 'İ', 'ﬁsh', 'é', 'e\u0301', '\u0301', '猫', '赤い猫', 'кот', 'قطة', 'ไทย', '🐱', '👨\u200d👩'),
    *('', ' ', '\t', '\n', '.', '. ', '..', '?', ',', '_', '-', '(', ')', '(x)', '/', '"', '1.5', '3', '[SEP]', '##s'),
    *('\xad', '\u200b', '\ufeff', '\x00', 'bus/van'),
]  # fmt: skip


@pytest.fixture(scope='module', params=READERS)
def model(request, tiny_bert):
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    return READERS[request.param](tiny_bert)


def drawn(rng, most):
    return [''.join(rng.choices(PIECES, k=rng.randint(1, 3))) for _ in range(rng.randint(0, most))]


def check(model, maps, caption, spans):
    """Each name has exactly the tokens that lie in its spans."""
    offsets = model.language_model.tokenize(caption).encodings[0].offsets
    for label, own in enumerate(spans, 1):
        inside = [
            token
            for token, (start, end) in enumerate(offsets)
            if end > start and any(start < stop and first < end for first, stop in own)
        ]
        assert maps[label] == inside and inside


@pytest.mark.parametrize('as_text', [False, True])
def test_names_have_their_own_tokens(model, as_text):
    rng, read, refused = random.Random(0), 0, 0
    for _ in range(300):
        asked = drawn(rng, 6)
        asked = ' . '.join(asked) if as_text else asked
        try:
            maps, caption, matrix, names = model.get_tokens_positive_and_prompts(asked, True)
        except UserError as error:
            assert 'text' in str(error)
            refused += 1
            continue
        read += 1
        spans, at = [], 0
        for name in names:  # one after the other, with '. ' between
            assert caption.startswith(name, at)
            spans.append([[at, at + len(name)]])
            at += len(name) + 2
        check(model, maps, caption, spans)
        everything = [token for own in maps.values() for token in own]
        assert len(everything) == len(set(everything)), 'a token means two names'
        assert [row.nonzero().flatten().tolist() for row in matrix] == list(maps.values())
    assert read > 100 and refused > 20


@pytest.mark.parametrize('way', ['nltk', 'rule'])
def test_phrases_of_sentences_have_their_tokens(model, way, monkeypatch):
    rng, read = random.Random(1), 0
    tagger = types.SimpleNamespace(
        pos_tag=lambda words: [(w, rng.choice(['DT', 'JJ', 'NN', 'NNS', 'IN'])) for w in words]
    )
    monkeypatch.setitem(sys.modules, 'nltk', tagger if way == 'nltk' else None)
    for _ in range(300):
        sentence = ' '.join(drawn(rng, 8))
        try:
            maps, caption, _, names = model.get_tokens_positive_and_prompts(sentence)
        except UserError as error:
            assert 'text' in str(error)
            continue
        read += 1
        assert len(set(names)) == len(names) == len(maps)
        offsets = model.language_model.tokenize(caption).encodings[0].offsets
        for tokens, name in zip(maps.values(), names):
            own = {caption[slice(*offsets[token])].lower() for token in tokens}
            assert own and all(part in name or name in part or any(map(str.isalnum, part)) for part in own)
    assert read > 100


def test_training_learns_the_tokens_of_its_labels(model, tiny_bert):
    rng, read = random.Random(2), 0
    random.seed(0)
    np.random.seed(0)
    for _ in range(200):
        classes = {str(label): name for label, name in enumerate(drawn(rng, 9) or ['cat'])}
        labels = np.array(rng.choices(range(len(classes)), k=3))
        results = dict(gt_bboxes=HorizontalBoxes(torch.zeros(3, 4)), gt_bboxes_labels=labels, text=dict(classes))
        try:
            results = RandomSamplingNegPos(tiny_bert, num_sample_negative=5).transform(results)
            found = taught(model, results)
        except UserError as error:
            assert 'text' in str(error) or 'label' in str(error)
            continue
        read += 1
        for label, row in zip(results['gt_bboxes_labels'].tolist(), found):
            check(model, {1: row.nonzero().flatten().tolist()}, results['text'], [results['tokens_positive'][label]])
    assert read > 80


def test_training_learns_the_tokens_of_its_phrases(model, tiny_bert):
    rng = random.Random(3)
    left = 0
    for _ in range(200):
        caption = ' '.join(drawn(rng, 30)) or 'cat'
        places = [sorted(rng.sample(range(len(caption) + 1), 2)) for _ in range(3)]
        phrases = {label: dict(phrase='x', tokens_positive=[place]) for label, place in enumerate(places)}
        boxes = HorizontalBoxes(torch.zeros(3, 4))
        results = dict(gt_bboxes=boxes, gt_bboxes_labels=np.arange(3), text=caption, phrases=phrases)
        results = RandomSamplingNegPos(tiny_bert, max_tokens=64).transform(results)
        labels = results['gt_bboxes_labels'].tolist()
        assert len(labels) == len(results['gt_bboxes']) and sorted(results['tokens_positive']) == labels
        left += 3 - len(labels)
        for label, row in zip(labels, taught(model, results)):
            check(model, {1: row.nonzero().flatten().tolist()}, results['text'], [[places[label]]])
    assert left > 20


def taught(model, results):
    """``positive_maps`` of a sample as the pipeline leaves it."""
    _, samples = pictures(results['text'], tokens_positive=results['tokens_positive'])
    samples[0].gt_instances = (
        samples[0]
        .gt_instances[:0]
        .new(labels=torch.from_numpy(np.asarray(results['gt_bboxes_labels'], dtype=np.int64)))
    )
    model._set_positive_maps(samples, torch.device('cpu'))
    return samples[0].gt_instances.positive_maps

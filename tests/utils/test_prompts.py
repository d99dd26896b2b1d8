import sys
import types

import pytest

from mmdet.errors import UserTypeError, UserValueError
from mmdet.utils import prompts
from mmdet.utils.prompts import chunks, clean_names, prompt_of_names, prompt_of_sentence, prompt_of_spans


@pytest.mark.parametrize(
    'text, names',
    [
        ('cat . remote control .', ['cat', 'remote control']),
        ('cat. dog', ['cat', 'dog']),
        ('cat', ['cat']),
        (' . cat . . dog .. ', ['cat', 'dog']),
        ('a 1.5 l bottle. dog', ['a 1.5 l bottle', 'dog']),
        (['St. Bernard', 't-shirt'], ['St. Bernard', 't-shirt']),
        (('traffic_light', 'person_(adult)', 'bow_(weapon)_tie'), ['traffic light', 'person', 'bow tie']),
        (['Kätzchen', '猫', 'кот'], ['Kätzchen', '猫', 'кот']),
        (['cat', 'cat'], ['cat', 'cat']),
    ],
)
def test_names(text, names):
    assert clean_names(text) == names


@pytest.mark.parametrize(
    'text, message',
    [
        ('', "nothing to look for: the text is ''"),
        (' . ', 'nothing to look for'),
        ([], r'nothing to look for: the text is \[\]'),
        (['cat', ' '], "class 1 of the text, ' ', is empty"),
        (['(adult)'], r"class 0 of the text, '\(adult\)', is empty"),
    ],
)
def test_nothing_to_look_for(text, message):
    with pytest.raises(UserValueError, match=message):
        clean_names(text)


def test_a_name_that_is_no_text():
    with pytest.raises(UserTypeError, match='class 1 of the text must be a name, got 3'):
        clean_names(['cat', 3])


# names, wording, whether a full stop ends it -> caption, spans
CAPTIONS = [
    (['cat', 'dogs'], None, True, 'cat. dogs. ', [[[0, 3]], [[5, 9]]]),
    (['cat', 'dogs'], None, False, 'cat. dogs', [[[0, 3]], [[5, 9]]]),
    (['cat', 'cat food', 'cat'], None, True, 'cat. cat food. cat. ', [[[0, 3]], [[5, 13]], [[15, 18]]]),
    (['t-shirt, red', 'St. Bernard'], None, True, 't-shirt, red. St. Bernard. ', [[[0, 12]], [[14, 25]]]),
    (['Émile', '猫'], None, True, 'Émile. 猫. ', [[[0, 5]], [[7, 8]]]),
    (
        ['cat', 'dog'],
        {'dog': dict(prefix='a ', suffix=' with ears'), 'cat': dict(name='kitten'), 'bird': dict(name='x')},
        True,
        'kitten. a dog with ears. ',
        [[[0, 6]], [[10, 13]]],
    ),
]


@pytest.mark.parametrize('names, wording, ends, caption, spans', CAPTIONS)
def test_captions(names, wording, ends, caption, spans):
    assert prompt_of_names(names, wording, ends) == (caption, spans, names)


# sentence -> phrases and their places by the own rule
SENTENCES = {
    'There is a cat and a remote control on the sofa.': {
        'a cat': [[9, 14]],
        'a remote control': [[19, 35]],
        'the sofa': [[39, 47]],
    },
    'cat food for my cat': {'cat food': [[0, 8]], 'my cat': [[13, 19]]},
    'the cat, the cat': {'the cat': [[0, 7], [9, 16]]},
    'A man riding a horse in Zürich': {'a man': [[0, 5]], 'a horse': [[13, 20]], 'zürich': [[24, 30]]},
    'एक लाल बिल्ली और कुत्ता': {'एक लाल बिल्ली और कुत्ता': [[0, 23]]},  # no word of which the rule knows
    'น้ำ and cafe\u0301s': {'น้ำ': [[0, 3]], 'cafe\u0301s': [[8, 14]]},
    'a swimming pool': {'a swimming pool': [[0, 15]]},
    'İzmir cats': {'i̇zmir cats': [[0, 10]]},  # which is longer in small letters
}


@pytest.mark.parametrize('caption', SENTENCES)
def test_noun_phrases(caption, monkeypatch):
    monkeypatch.setitem(sys.modules, 'nltk', None)
    prompt = prompt_of_sentence(caption)
    assert dict(zip(prompt.names, prompt.spans)) == SENTENCES[caption]
    assert prompt.caption == (caption if caption.endswith('.') else caption + '. ')


@pytest.mark.parametrize('caption', ['', '  ', 'there is not', '...', '123 !'])
def test_no_noun_phrase(caption, monkeypatch):
    monkeypatch.setitem(sys.modules, 'nltk', None)
    with pytest.raises(UserValueError, match=r'nothing to look for|no noun phrase was found.*custom_entities=True'):
        prompt_of_sentence(caption)


def test_tags_of_nltk(monkeypatch):
    tags = dict(the='DT', big='JJ', dog='NN', runs='VBZ', home='NN')
    tagger = types.SimpleNamespace(pos_tag=lambda words: [(word, tags.get(word, '.')) for word in words])
    monkeypatch.setitem(sys.modules, 'nltk', tagger)
    assert prompts.noun_phrases('The big dog runs home') == [[0, 11], [17, 21]]

    def without_data(words):
        raise LookupError

    tagger.pos_tag = without_data
    assert prompts.noun_phrases('The dog is home') == [[0, 7], [11, 15]]


def test_given_places():
    prompt = prompt_of_spans('a red cat and a dog', [[[0, 1], [6, 9]], [[14, 19]]])
    assert prompt == ('a red cat and a dog. ', [[[0, 1], [6, 9]], [[14, 19]]], ['a / cat', 'a dog'])
    for wrong in ([[0, 99]], [[3, 3]], [[-1, 2]], [], [0, 3], [[0]]):
        with pytest.raises(UserValueError, match=r'tokens_positive\[0\] must be a list of \[start, end\]'):
            prompt_of_spans('a cat', [wrong])


def test_chunks():
    assert chunks(['a', 'b', 'c'], 2) == [['a', 'b'], ['c']]
    assert chunks([], 2) == []

"""Detectors that read: prompts, labels with names, losses."""

import pytest
import torch
from fake_gpu import WaitingCopies, fake_weights
from readers import READERS, grounding_dino, pictures
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet.errors import UserTypeError, UserValueError
from mmdet.models.core import set_matching
from mmdet.models.dense_heads import convert_grounding_to_cls_scores

pytestmark = pytest.mark.usefixtures('default_scope')


@pytest.fixture(scope='module')
def model(tiny_bert):
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    return grounding_dino(tiny_bert)


# what is asked for -> tokens as the small BERT cuts the caption, and the tokens of each name
TOKENS = {
    'names': (['cat', 'remote control'], '[CLS] cat . remote control . [SEP]', [[1], [3, 4]]),
    'plural forms': (['cats', 'dog'], '[CLS] cat ##s . dog . [SEP]', [[1, 2], [4]]),
    'repeated': (['cat', 'dog', 'cat'], '[CLS] cat . dog . cat . [SEP]', [[1], [3], [5]]),
    'part of another': (['light', 'traffic light'], '[CLS] light . traffic light . [SEP]', [[1], [3, 4]]),
    'punctuation': (['a-b', 'dog, red'], '[CLS] a - b . dog , red . [SEP]', [[1, 2, 3], [5, 6, 7]]),
    'a full stop within': (['a. b', 'cat'], '[CLS] a . b . cat . [SEP]', [[1, 2, 3], [5]]),
    'underscores and brackets': (['traffic_light_(red)'], '[CLS] traffic light . [SEP]', [[1, 2]]),
    'letters with marks': (['Éé', 'cat'], '[CLS] e ##e . cat . [SEP]', [[1, 2], [4]]),
    'letters of other scripts': (['猫', 'кот', 'cat'], '[CLS] [UNK] . [UNK] . cat . [SEP]', [[1], [3], [5]]),
    'a text of names': ('cat . red light.dog', '[CLS] cat . red light . dog . [SEP]', [[1], [3, 4, 5, 6]]),
}


@pytest.mark.parametrize('asked, tokens, spans', TOKENS.values(), ids=TOKENS)
def test_tokens_of_names(model, asked, tokens, spans):
    tokenized, _, places, _ = model.get_tokens_and_prompts(asked, True)
    assert tokenized.encodings[0].tokens == tokens.split()
    maps, matrix = model.get_positive_map(tokenized, places)
    assert maps == dict(enumerate(spans, 1))
    assert [row.nonzero().flatten().tolist() for row in matrix] == spans
    torch.testing.assert_close(matrix.sum(1), torch.ones(len(spans)))


def test_tokens_of_a_sentence(model):
    maps, caption, _, names = model.get_tokens_positive_and_prompts('the cat and the red dog, the cat')
    assert caption == 'the cat and the red dog, the cat. '
    tokens = model.language_model.tokenize(caption).encodings[0].tokens
    assert {name: [tokens[t] for t in maps[i]] for i, name in enumerate(names, 1)} == {
        'the cat': ['the', 'cat', 'the', 'cat'],
        'the red dog': ['the', 'red', 'dog'],
    }


def test_given_tokens(model):
    maps, _, _, names = model.get_tokens_positive_and_prompts(
        'the red cat', tokens_positive=[[[4, 7]], [[0, 3], [8, 11]]]
    )
    assert (maps, names) == ({1: [2], 2: [1, 3]}, ['red', 'the / cat'])
    assert model.get_tokens_positive_and_prompts('the cat', tokens_positive=-1) == (None, 'the cat. ', None, 'the cat')


def test_other_words(model):
    words = dict(dog=dict(prefix='the ', name='red dog', suffix=', person'))
    maps, caption, _, names = model.get_tokens_positive_and_prompts(['cat', 'dog'], True, words)
    assert (caption, maps, names) == ('cat. the red dog, person. ', {1: [1], 2: [4, 5]}, ['cat', 'dog'])


@pytest.mark.parametrize(
    'error, asked, text',
    [
        (UserValueError, '', 'there is nothing to look for'),
        (UserValueError, ['cat', ''], 'class 1 of the text'),
        (
            UserValueError,
            ['cat'] * 400,
            r'400 names has 802 tokens, and only 256 are read: class 127, .cat., .*chunked_size',
        ),
        (UserValueError, ['cat', '\u200b'], 'no token for class 1'),
        (UserTypeError, ['cat', None], 'class 1 of the text must be a name'),
    ],
)
def test_names_that_cannot_be_read(model, error, asked, text):
    with pytest.raises(error, match=text):
        model.get_tokens_positive_and_prompts(asked, True)


def test_400_names_in_chunks(model, monkeypatch):
    monkeypatch.setitem(model.test_cfg, 'chunked_size', 100)
    maps, captions, _, names = model.get_tokens_positive_and_prompts(['cat'] * 400, True)
    assert len(captions) == 4 and [len(part) for part in names] == [100] * 4
    assert maps[3][100] == [199]
    with pytest.raises(UserValueError, match='chunked_size=100 needs names'):
        model.get_tokens_positive_and_prompts('the cat')


@pytest.mark.parametrize('kind', READERS)
@torch.no_grad()
def test_detections_have_names(kind, tiny_bert):
    model = READERS[kind](tiny_bert)
    images, samples = pictures(['cat', 'red light'], ['dog', 'cat', 'person'], truth=False)
    for sample, names in zip(model.predict(images, samples), (['cat', 'red light'], ['dog', 'cat', 'person'])):
        found = sample.pred_instances
        assert len(found) == 10 and found.bboxes.shape == (10, 4) and (found.scores.diff() <= 0).all()
        assert found.label_names == [names[label] for label in found.labels]
    _, again = pictures('a red light', 'the cat and the dog', truth=False)
    for sample, names in zip(model.predict(images, again), ({'a red light'}, {'the cat', 'the dog'})):
        assert set(sample.pred_instances.label_names) <= names


@pytest.mark.parametrize('kind', READERS)
@torch.no_grad()
def test_company_does_not_matter(kind, tiny_bert):
    model = READERS[kind](tiny_bert)
    images, samples = pictures(['cat', 'red light', 'remote control'], ['dog'], truth=False)
    both = [sample.pred_instances for sample in model.predict(images, samples)]
    for index, found in enumerate(both):
        _, alone = pictures(['cat', 'red light', 'remote control'], ['dog'], truth=False)
        own = model.predict(images[index : index + 1], alone[index : index + 1])[0].pred_instances
        torch.testing.assert_close(own.scores, found.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own.bboxes, found.bboxes, rtol=0, atol=1e-2)


@pytest.mark.parametrize('kind', READERS)
@torch.no_grad()
def test_chunks_of_names(kind, tiny_bert):
    model = READERS[kind](tiny_bert)
    names = ['cat', 'dog', 'person']
    parts = []
    for first, chunk in ((0, names[:2]), (2, names[2:])):
        images, samples = pictures(chunk, truth=False)
        found = model.predict(images, samples)[0].pred_instances
        parts += list(zip(found.scores.tolist(), (found.labels + first).tolist(), found.label_names))
    model.test_cfg.chunked_size = 2
    images, samples = pictures(names, names, truth=False, custom_entities=True)
    found = model.predict(images, samples)[0].pred_instances
    together = list(zip(found.scores.tolist(), found.labels.tolist(), found.label_names))
    assert [row[1:] for row in together] == [row[1:] for row in parts]
    torch.testing.assert_close(torch.tensor([row[0] for row in together]), torch.tensor([row[0] for row in parts]))


@pytest.mark.parametrize('kind', READERS)
@torch.no_grad()
def test_a_sentence_as_a_whole(kind, tiny_bert):
    images, samples = pictures('the red cat', truth=False, tokens_positive=-1)
    found = READERS[kind](tiny_bert).predict(images, samples)[0].pred_instances
    assert not found.labels.any() and set(found.label_names) == {'the red cat'}


def total(losses):
    return sum(sum(value) if isinstance(value, list) else value for value in losses.values())


@pytest.mark.parametrize('kind', READERS)
def test_losses_teach_everything(kind, tiny_bert):
    model = READERS[kind](tiny_bert).train()
    images, samples = pictures(('cat', 'red light'), ('cat', 'red light'))
    losses = model.loss(images, samples)
    assert all(torch.isfinite(value).all() for value in losses.values())
    total(losses).backward()
    idle = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()}
    # the last layer of BERT's pooler is not there, and what GLIP's own layers for the text give last is read
    assert {name for name in idle if not name.startswith('backbone')} <= {'level_embed'}, idle
    assert samples[0].gt_instances.positive_maps.sum(1).tolist() == [2, 1]  # red light, cat


@pytest.mark.parametrize('kind', READERS)
def test_losses_without_any_object(kind, tiny_bert):
    model = READERS[kind](tiny_bert).train()
    images, samples = pictures(('cat',), ('dog', 'person'))
    samples[0].gt_instances = samples[0].gt_instances[:0]
    total(model.loss(images, samples)).backward()


def test_places_of_names_in_training(model):
    model.train()
    images, samples = pictures('the red cat', tokens_positive={0: [[0, 3]], 1: [[4, 7], [8, 11]]})
    torch.manual_seed(0)
    losses = model.loss(images, samples)
    assert samples[0].gt_instances.positive_maps[:, :6].tolist() == [[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]]
    assert torch.isfinite(total(losses))
    images, samples = pictures(('cat',))
    with pytest.raises(UserValueError, match='the label 1 of a picture is none of the 1 in its text'):
        model.loss(images, samples)
    model.eval()


def test_without_a_text(model):
    images, samples = pictures(['cat'], truth=False)
    del samples[0].text
    with pytest.raises(UserValueError, match="told what to look for, but the picture has no 'text'"):
        model.predict(images, samples)
    with pytest.raises(UserValueError, match='needs samples'):
        model(images, mode='tensor')


def test_scores_of_names():
    logits = torch.tensor([[[0.1, 0.2, 0.6]], [[1.0, 0.0, 0.5]]])
    scores = convert_grounding_to_cls_scores(logits, [{1: [0, 1], 2: [2]}, {1: [2]}])
    torch.testing.assert_close(scores, torch.tensor([[[0.15, 0.6]], [[0.5, 0.0]]]))
    same = convert_grounding_to_cls_scores(logits, [{1: [1, 2]}] * 2)
    torch.testing.assert_close(same, torch.tensor([[[0.4]], [[0.25]]]))


@pytest.mark.usefixtures('_fake_gpu')
@pytest.mark.parametrize('kind, waits', [('GroundingDINO', 1), ('GLIP', 0)])
def test_a_loss_waits_for_a_gpu_only_to_match(kind, waits, tiny_bert, monkeypatch):
    empty = lambda host, shapes, *rest: torch.zeros(sum(n * q for n, q, _ in shapes), dtype=torch.int32)
    monkeypatch.setattr(set_matching, 'solve_on_host', empty)
    model = READERS[kind](tiny_bert).train()
    if kind == 'GroundingDINO':
        prepare = model.pre_transformer

        def with_numbers(feats, samples):  # a tensor on the host would be a fake one, too
            both = prepare(feats, samples)
            both[0]['spatial_shapes'] = both[1]['spatial_shapes'] = [tuple(feat.shape[-2:]) for feat in feats]
            return both

        model.pre_transformer = with_numbers
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # the tokenizer makes tensors, too
        fake_weights(mode, model, 'cuda')
        images, samples = pictures(('cat', 'red light'), ('cat', 'red light', 'dog'))
        images, samples = images.to('cuda'), [sample.to('cuda') for sample in samples]
        with WaitingCopies() as copies:
            losses = model.loss(images, samples)
    assert total(losses).device.type == 'cuda'
    assert len(copies.found) == waits


@torch.no_grad()
def test_a_label_without_a_name_is_not_a_number_on_a_gpu(model, monkeypatch):
    _, samples = pictures('the red cat', tokens_positive={1: [[4, 7]], 3: [[0, 3]]})
    samples[0].gt_instances.labels = torch.tensor([3, 2])
    with pytest.raises(UserValueError, match='the label 2 of a picture is none of the 2 in its text'):
        model._set_positive_maps(samples, torch.device('cpu'))
    monkeypatch.setattr(type(model), '_check_labels', lambda *args: None)
    model._set_positive_maps(samples, torch.device('cpu'))
    known, unknown = samples[0].gt_instances.positive_maps
    assert known.nonzero().flatten().tolist() == [1] and unknown.isnan().all()

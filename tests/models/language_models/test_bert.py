import builtins
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmdet.errors import UserFileError, UserImportError, UserValueError
from mmdet.models.language_models import BertModel, generate_masks_with_special_tokens_and_transfer_map
from mmdet.registry import MODELS
from mmdet.utils import tokenizers

SPECIAL = ['[CLS]', '[SEP]', '.', '?']
BY_NAME = dict(pad_to_max=False, use_sub_sentence_represent=True, special_tokens_list=SPECIAL)

# ids, of which 1 is special -> groups of places that see each other, and the place of each within its group
MASKS = {
    'names of one and two tokens': ([1, 5, 1, 6, 7, 1, 1], [[1, 2], [3, 4, 5]], [0, 0, 1, 0, 1, 2, 0]),
    'padding sees itself': ([1, 5, 1, 1, 0, 0, 0], [[1, 2]], [0, 0, 1, 0, 0, 0, 0]),
    'what the last token ends stays apart': ([1, 5, 6, 1], [], [0, 0, 0, 0]),
    'the same with padding': ([1, 5, 6, 1, 0], [[1, 2, 3]], [0, 0, 1, 2, 0]),
    'no special token': ([5, 6, 7], [], [0, 0, 0]),
    'special tokens alone': ([1, 1, 1], [], [0, 0, 0]),
}


@pytest.mark.parametrize('ids, groups, places', MASKS.values(), ids=MASKS)
def test_names_do_not_see_each_other(ids, groups, places):
    want = torch.eye(len(ids), dtype=torch.bool)
    for group in groups:
        for row in group:
            want[row, group] = True
    other = [5] * len(ids)  # a second text does not change the first
    mask, position = generate_masks_with_special_tokens_and_transfer_map(
        dict(input_ids=torch.tensor([ids, other])), [1]
    )
    assert torch.equal(mask[0], want) and position[0].tolist() == places
    assert torch.equal(mask[1], torch.eye(len(ids), dtype=torch.bool)) and not position[1].any()


def test_a_name_means_the_same_in_any_company(tiny_bert):
    model = BertModel(tiny_bert, **BY_NAME).eval()
    with torch.no_grad():
        features = model(['cat. red light. dog. ', 'dog. cat. '])
    assert features['embedded'].shape == (2, 9, 32)
    assert features['text_token_mask'].sum(1).tolist() == [9, 6]
    # tokens: [CLS] cat . red light . dog . [SEP] and [CLS] dog . cat . [SEP]
    torch.testing.assert_close(features['embedded'][0, 1:3], features['embedded'][1, 3:5])
    torch.testing.assert_close(features['embedded'][0, 6:8], features['embedded'][1, 1:3])
    sentence = BertModel(tiny_bert, pad_to_max=False).eval()(['cat. red light. dog. ', 'dog. cat. '])
    assert (sentence['embedded'][0, 1] - sentence['embedded'][1, 3]).abs().max() > 1e-3


def test_outputs_are_those_of_transformers(tiny_bert):
    import transformers

    theirs = transformers.BertModel.from_pretrained(tiny_bert).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(tiny_bert)(
        ['a red cat', 'the dog'], padding=True, return_tensors='pt'
    )
    ours = MODELS.build(dict(type='mmdet.BertModel', name=tiny_bert, pad_to_max=False)).eval()
    with torch.no_grad():
        want = theirs(**tokens, output_hidden_states=True).hidden_states
        have = ours(['a red cat', 'the dog'])
        mean = BertModel(tiny_bert, pad_to_max=False, num_layers_of_embedded=2).eval()(['a red cat', 'the dog'])
    seen = tokens['attention_mask'][..., None]
    torch.testing.assert_close(have['hidden'] * seen, want[-1] * seen)
    torch.testing.assert_close(have['embedded'], want[-1] * seen)
    torch.testing.assert_close(
        mean['embedded'], (want[-1] + want[-2]) / 4 * seen
    )  # divided twice, as the weights expect


def test_padding_and_cutting(tiny_bert):
    model = BertModel(tiny_bert, max_tokens=8).eval()
    features = model(['cat', 'cat dog cat dog cat dog cat dog'])
    assert features['embedded'].shape == (2, 8, 32)
    assert not features['embedded'][0, 3:].any() and features['masks'].sum(1).tolist() == [3, 8]
    same = model(['cat', 'cat'])  # read once
    torch.testing.assert_close(same['embedded'][1], features['embedded'][0])
    assert same['masks'].shape == (2, 8)


def test_names_of_weights(tiny_bert):
    plain, pooled = BertModel(tiny_bert), BertModel(tiny_bert, add_pooling_layer=True)
    names = set(plain.state_dict())
    prefix = 'language_backbone.body.model.'
    assert {f'{prefix}embeddings.word_embeddings.weight', f'{prefix}encoder.layer.1.output.LayerNorm.bias'} < names
    assert set(pooled.state_dict()) - names == {f'{prefix}pooler.dense.weight', f'{prefix}pooler.dense.bias'}
    older = {**plain.state_dict(), f'{prefix}embeddings.position_ids': torch.arange(512)[None]}
    plain.load_state_dict(older, strict=True)


def test_activations_may_be_computed_again(tiny_bert):
    model = BertModel(tiny_bert, use_checkpoint=True, **BY_NAME).train()
    model(['cat. dog. '])['embedded'].sum().backward()
    assert next(model.parameters()).grad is not None


@pytest.mark.parametrize(
    'kept, text',
    [
        ((), r'lacks its words \(tokenizer.json or vocab.txt\)'),
        (('vocab.txt', 'tokenizer_config.json'), r'lacks its settings \(config.json\)'),
        (('config.json', 'vocab.txt', 'tokenizer_config.json'), r'lacks its weights \(model.safetensors or'),
    ],
)
def test_a_folder_without_a_file(tiny_bert, tmp_path, kept, text):
    for name in kept:
        shutil.copy(Path(tiny_bert) / name, tmp_path)
    with pytest.raises(UserFileError, match=text):
        BertModel(str(tmp_path))


def test_mistakes(tiny_bert):
    with pytest.raises(UserFileError, match='there is no folder'):
        BertModel('./nowhere')
    with pytest.raises(UserValueError, match='needs special_tokens_list'):
        BertModel(tiny_bert, use_sub_sentence_represent=True)


def test_without_transformers(monkeypatch):
    own = builtins.__import__

    def without(name, *args, **kwargs):
        if name == 'transformers':
            raise ImportError('No module named transformers')
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(UserImportError, match='pip install transformers'):
        BertModel()


@pytest.mark.parametrize('offline', ['0', '1'])
def test_nothing_is_fetched_without_being_asked_for(tmp_path, offline):
    pytest.importorskip('transformers')
    code = (
        'import socket\n'
        'def refuse(*args): raise SystemExit("a connection was opened")\n'
        'socket.socket.connect = refuse\n'
        'from mmdet.models.language_models import BertModel\n'
        'try: BertModel()\n'
        'except FileNotFoundError as error: print(error)\n'
    )
    env = {'HF_HOME': str(tmp_path), 'HF_HUB_OFFLINE': offline, 'PATH': '', 'PYTHONPATH': ':'.join(sys.path)}
    text = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env, check=True).stdout
    assert "'bert-base-uncased' is no folder" in text and f'({tmp_path}/hub) lacks its words' in text
    assert (
        'hf download bert-base-uncased' in text
        and tokenizers.DOWNLOAD in text
        and "name='/path/to/bert-base-uncased'" in text
    )
    assert ('Unset HF_HUB_OFFLINE' in text) == (offline == '1')

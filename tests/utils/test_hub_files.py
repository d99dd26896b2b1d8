import pytest

from mmdet.errors import UserError, UserValueError
from mmdet.utils.checkpoint import read_checkpoint
from mmdet.utils.hub_files import hub_path, split_address


@pytest.mark.parametrize(
    'address, parts',
    [
        ('hf://PekingU/rtdetr_r18vd', ('PekingU/rtdetr_r18vd', None, None)),
        ('hf://a/b@main/x/model.safetensors', ('a/b', 'x/model.safetensors', 'main')),
    ],
)
def test_addresses(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize('address', ['hf://a', 'hf://a/b/../c', 'https://huggingface.co/a/b', 'hf://a//b'])
def test_what_is_no_address(address):
    with pytest.raises(UserValueError, match='no address of the hub'):
        split_address(address)


def test_a_repository_through_a_client(tmp_path, monkeypatch):
    """Whatever the client fetches is read as the folder that `transformers` writes."""
    huggingface_hub = pytest.importorskip('huggingface_hub')
    import torch
    from safetensors.torch import save_file

    save_file({'x': torch.arange(3.0)}, tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text('{"id2label": {"0": "cat"}}')
    asked = []

    def snapshot(**options):
        asked.append(options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot)
    content = read_checkpoint('hf://owner/repo')
    assert content['state_dict']['x'].tolist() == [0, 1, 2]
    assert content['meta']['dataset_meta']['classes'] == ('cat',)
    assert asked[0]['repo_id'] == 'owner/repo' and '*.safetensors' in asked[0]['allow_patterns']


def test_without_a_connection_the_folder_is_named(monkeypatch):
    constants = pytest.importorskip('huggingface_hub').constants
    monkeypatch.setenv('MMDET_OFFLINE', '1')
    with pytest.raises(UserError, match=r'owner/repo cannot be had') as raised:
        hub_path('hf://owner/repo')
    assert str(constants.HF_HUB_CACHE) in str(raised.value)

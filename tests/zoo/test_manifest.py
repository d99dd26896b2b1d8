import json
import re

import pytest

from mmdet.cli.main import main
from mmdet.config import config_root
from mmdet.utils.downloads import digest_in_name, file_name
from mmdet.zoo import NoWeightsError, cached_file, entries, search, weights_of


def test_entries_are_of_configs_that_are_here():
    names = [entry.name for entry in entries()]
    assert len(names) > 500 and names == sorted(set(names))
    assert [entry.name for entry in entries() if not (config_root() / entry.config).is_file()] == []


def test_what_is_known_of_hashes_stands_in_the_names():
    for entry in entries():
        assert re.match(r'https://|hf://[\w.-]+/[\w.-]+$', entry.url)
        given = '' if entry.url.startswith('hf://') else digest_in_name(file_name(entry.url)) or ''
        assert entry.sha256 == given and entry.licence == 'Apache-2.0'


def test_names():
    entry = weights_of('rtmdet-tiny')
    assert entry.results['box AP'] == 40.9 and entry.sha256 == '78e30dcc' and entry.family == 'rtmdet'
    with pytest.raises(NoWeightsError, match=r'no weights are known for yolox_m.*pretrained=False'):
        weights_of('yolox-m')


def test_search():
    found = search('rtmdet', 'tiny')
    assert {entry.name for entry in found} == {'rtmdet_tiny_8xb32-300e_coco', 'rtmdet-ins_tiny_8xb32-300e_coco'}
    assert search('no such model') == []


def test_files_that_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = weights_of('rtmdet-tiny').url
    assert cached_file(url) is None and cached_file('hf://a/b') is None
    place = tmp_path / 'hub' / 'checkpoints' / file_name(url)
    place.parent.mkdir(parents=True)
    place.touch()
    assert cached_file(url) == place


def test_the_command(capsys):
    assert main(['models']) == 0 and 'rtmdet ' in capsys.readouterr().out
    assert main(['models', 'rtmdet_tiny', '--json']) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row['config'] == 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
    assert main(['models', 'nothing-like-it']) == 1

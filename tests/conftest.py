import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault('MPLBACKEND', 'Agg')

import pytest
import torch


def pytest_configure(config):
    torch.set_num_threads(1)


def pytest_runtest_setup(item):
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('there is no GPU')


@pytest.fixture(scope='session')
def shared_dir() -> Path:
    """The folder with parity cases and real data that lies beside a development checkout."""
    path = Path(__file__).resolve().parents[2] / 'shared'
    if not path.is_dir():
        pytest.skip('the parity cases are not beside this checkout')
    return path


@pytest.fixture
def default_scope():
    """The registries of mmdet as mmengine's default scope, as every entry point sets it."""
    from mmengine.registry import DefaultScope, init_default_scope

    init_default_scope('mmdet')
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def _fake_gpu():
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            torch.zeros(1).to('cuda') + 1
    except RuntimeError:
        pytest.skip('this version of torch needs a GPU even for fake tensors of one')


@pytest.fixture
def interpret(request):
    """Runs code that can import the test's own module, with Triton's kernels interpreted on the CPU."""
    pytest.importorskip('triton')

    def run(code):
        path = os.pathsep.join([str(request.path.parent), *sys.path])
        env = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': path}
        done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


@pytest.fixture
def one_graph():
    """Calls a module through the compiler's front end alone; whatever breaks its graph is an error."""
    torch._dynamo.reset()
    yield lambda module, *args: torch.compile(module, fullgraph=True, backend='eager')(*args)
    torch._dynamo.reset()


@pytest.fixture(scope='session')
def tiny_bert(tmp_path_factory) -> str:
    """A folder with a BERT of two narrow layers, random weights and few words besides all letters."""
    transformers = pytest.importorskip('transformers', reason='transformers, by which texts are read')
    folder = tmp_path_factory.mktemp('bert')
    letters = 'abcdefghijklmnopqrstuvwxyz0123456789'
    words = [f'[unused{i}]' for i in range(1050)]  # the special ones have the numbers that published models rely on
    words[0], words[100:104], words[1012], words[1029] = '[PAD]', ['[UNK]', '[CLS]', '[SEP]', '[MASK]'], '.', '?'
    words += [*",-'_/()", *letters, *(f'##{letter}' for letter in letters)]
    words += ['cat', 'dog', 'red', 'remote', 'control', 'traffic', 'light', 'person', 'the']
    (folder / 'vocab.txt').write_text('\n'.join(words) + '\n')
    (folder / 'tokenizer_config.json').write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=512, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)

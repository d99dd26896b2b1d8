import os
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
def one_graph():
    """Calls a module through the compiler's front end alone; whatever breaks its graph is an error."""
    torch._dynamo.reset()
    yield lambda module, *args: torch.compile(module, fullgraph=True, backend='eager')(*args)
    torch._dynamo.reset()

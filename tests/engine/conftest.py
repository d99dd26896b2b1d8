import pytest


@pytest.fixture(autouse=True)
def _clean_default_scope():
    yield
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()

import pkgutil

from mmdet import python_repairs


def test_find_loader():
    assert python_repairs.find_loader('json') is not None
    assert python_repairs.find_loader('mmcv._ext') is None
    assert python_repairs.find_loader('no_such_package.inner') is None


def test_its_callers_work_without_that_of_the_standard_library(monkeypatch):
    import mmcv.utils.ext_loader
    import mmengine.utils.dl_utils.misc

    for module in (mmengine.utils.dl_utils.misc, mmcv.utils.ext_loader):
        monkeypatch.setattr(module, 'pkgutil', pkgutil)
    monkeypatch.delattr(pkgutil, 'find_loader', raising=False)
    python_repairs.supply_find_loader()
    assert mmengine.utils.dl_utils.misc.mmcv_full_available() in (True, False)
    assert mmcv.utils.ext_loader.check_ops_exist() is False
    assert not hasattr(pkgutil, 'find_loader')

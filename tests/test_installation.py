import importlib.machinery
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from mmdet import installation


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty site-packages folder that holds ``cv2`` and ``mmcv``; returns a function that adds distributions."""

    def find_spec(name):
        return importlib.machinery.ModuleSpec(name, None, origin=str(tmp_path / name / '__init__.py'))

    def add(*distributions):
        for distribution in distributions:
            (tmp_path / f'{distribution}.dist-info').mkdir()

    monkeypatch.setattr(installation.importlib.util, 'find_spec', find_spec)
    return add


def cannot_load(monkeypatch, *libraries):
    def load(name):
        if name in libraries:
            raise OSError(f'{name}: cannot open shared object file: No such file or directory')

    monkeypatch.setattr(installation.ctypes, 'CDLL', load)


def cv2_fails(name):
    raise ImportError(f'libGL.so.1: cannot open shared object file, wanted by {name}')


@pytest.mark.skipif(sys.platform != 'linux', reason='the desktop build brings its libraries elsewhere')
@pytest.mark.parametrize('build', ['opencv_python-5.0.0.93', 'opencv_contrib_python-4.12.0.88'])
def test_desktop_opencv_without_libgl_is_one_sentence(site, monkeypatch, build):
    site(build, 'opencv_python_headless-5.0.0.93')
    cannot_load(monkeypatch, 'libGL.so.1')
    monkeypatch.setattr(installation.importlib, 'import_module', cv2_fails)
    with pytest.raises(ImportError, match='is missing: run') as raised:
        installation.check()
    message = str(raised.value)
    assert message.count('libGL.so.1') == 1 and 'opencv-python-headless' in message and '\n' not in message
    assert raised.value.__suppress_context__


def test_headless_files_over_the_desktop_build_are_fine(site, monkeypatch):
    site('opencv_python-5.0.0.93', 'opencv_python_headless-5.0.0.93')
    cannot_load(monkeypatch, 'libGL.so.1')
    monkeypatch.setattr(installation.importlib, 'import_module', lambda name: None)
    installation.check()


def test_nothing_is_loaded_while_the_headless_build_is_installed(site, monkeypatch):
    site('opencv_python_headless-5.0.0.93', 'mmcv_lite-2.2.0')
    cannot_load(monkeypatch, *installation.DESKTOP_LIBRARIES)
    monkeypatch.setattr(installation.importlib, 'import_module', cv2_fails)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        installation.check()


def test_mmcv_beside_mmcv_lite_warns(site):
    site('mmcv-2.1.0', 'mmcv_lite-2.2.0')
    with pytest.warns(UserWarning, match='pip uninstall mmcv mmcv-lite'):
        installation.check()


def test_import_of_the_package_is_light():
    code = 'import sys; old = set(sys.modules); import mmdet; print(*set(sys.modules) - old)'
    loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert 'mmdet.installation' in loaded
    assert not {'torch', 'cv2', 'mmcv', 'mmengine', 'numpy', 'importlib.metadata'} & set(loaded)


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def distributions(tmp_path_factory):
    """Names of the files in a wheel and in a source distribution of the package, built with one config."""
    source = tmp_path_factory.mktemp('source')
    shutil.copytree(ROOT / 'requirements', source / 'requirements')
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'NOTICE', 'requirements.txt'):
        shutil.copy(ROOT / name, source)
    for name in (
        'mmdet/__init__.py',
        'mmdet/version.py',
        'configs/yolox/README.md',
        'demo/image_demo.py',
        'tools/test.py',
    ):
        source.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, 'setup.py', '-q', 'sdist', 'bdist_wheel']
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (archive,), (wheel,) = (source / 'dist').glob('*.tar.gz'), (source / 'dist').glob('*.whl')
    with tarfile.open(archive) as opened:
        sdist = {name.partition('/')[2] for name in opened.getnames()}
    with zipfile.ZipFile(wheel) as opened:
        return sdist, {name: opened.read(name) for name in opened.namelist()}


def test_licence_and_notice_are_in_wheel_and_sdist(distributions):
    sdist, wheel = distributions
    assert {'LICENSE', 'NOTICE', 'configs/yolox/README.md'} <= sdist
    for name in ('LICENSE', 'NOTICE'):
        (content,) = (content for path, content in wheel.items() if path.endswith(f'.dist-info/licenses/{name}'))
        assert content == (ROOT / name).read_bytes()
    assert 'mmdet/.mim/configs/yolox/README.md' in wheel


def test_what_detectors_that_read_need_is_an_extra(distributions):
    (metadata,) = (content.decode() for path, content in distributions[1].items() if path.endswith('METADATA'))
    extra = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'multimodal' in line]
    assert [line.split()[1].partition('>')[0].strip(';') for line in extra] == ['nltk', 'pycocoevalcap', 'transformers']


@pytest.mark.parametrize('name', ['LICENSE', 'NOTICE', 'README.md'])
def test_mmdetection_is_credited(name):
    text = ' '.join((ROOT / name).read_text(encoding='utf-8').split())
    assert 'MMDetection' in text and 'OpenMMLab' in text
    assert 'config language' in text and 'published results' in text

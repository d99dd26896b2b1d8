"""Metadata and contents of the package; the settings of the tools stand in pyproject.toml."""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def requirements(name: str) -> list[str]:
    lines = (HERE / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith(('#', '-'))]


class BuildWithConfigs(build_py):
    """Puts the configs and tools into the wheel as ``mmdet/.mim``, where ``mmdet::`` paths and MIM look for them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder in ('configs', 'demo', 'tools'):
                target = Path(self.build_lib, 'mmdet', '.mim', folder)
                shutil.copytree(HERE / folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns('__pycache__'))


setup(
    name='mmdet',
    version=runpy.run_path(str(HERE / 'mmdet' / 'version.py'))['__version__'],
    description='A registry-based, modular object-detection toolbox for PyTorch',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    keywords=['computer vision', 'object detection', 'instance segmentation'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: Microsoft :: Windows',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    packages=find_packages(include=['mmdet', 'mmdet.*']),
    package_data={'mmdet': ['py.typed', 'zoo/*.json']},
    entry_points={'console_scripts': ['mmdet = mmdet.cli.main:main']},
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name) for name in ('tests', 'docs', 'hub', 'multimodal')},
    zip_safe=False,
)

"""Sphinx settings: sphinx-build docs work_dirs/docs"""

import runpy
from pathlib import Path

project = 'mmdet'
version = release = runpy.run_path(str(Path(__file__).parents[1] / 'mmdet' / 'version.py'))['__version__']
extensions = ['myst_parser']
source_suffix = {'.md': 'markdown'}
exclude_patterns = ['_build']
myst_heading_anchors = 3
html_title = 'mmdet'

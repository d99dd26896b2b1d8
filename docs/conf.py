"""Sphinx settings: sphinx-build docs work_dirs/docs"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = 'mmdet'
version = release = runpy.run_path(str(ROOT / 'mmdet' / 'version.py'))['__version__']
extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb'}
exclude_patterns = ['_build']
myst_heading_anchors = 3
nb_execution_mode = 'off'  # a test runs them
html_title = 'mmdet'
html_theme = 'furo'
copybutton_exclude = '.linenos, .gp, .go'

# The reference: each name once, where its package lists it
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
suppress_warnings = ['myst.header', 'myst.xref_missing']  # READMEs of configs are no pages


_documented: dict[int, str] = {}


def once(app, what, name, found, skip, options):
    """Leave out what the page of another package has: packages list the names of those inside."""
    if what == 'module' and callable(found) and _documented.setdefault(id(found), app.env.docname) != app.env.docname:
        return True
    return None


def setup(app):
    """mmcv's ``cache_randomness`` cannot be read from a class, only from an instance."""
    from mmcv.transforms.utils import cache_randomness

    of_instances = cache_randomness.__get__
    cache_randomness.__get__ = lambda self, obj, kind=None: self if obj is None else of_instances(self, obj, kind)
    app.connect('autodoc-skip-member', once, priority=400)  # before napoleon's

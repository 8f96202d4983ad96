"""Settings of Sphinx: `make docs` builds the site into docs/_build/html."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / 'extensions'))

project = 'reprefine'
author = 'the authors of reprefine'
release = version_of('reprefine')
extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'myst_parser',
    'repository_pages',
    'api_pages',
]
exclude_patterns = ['_build', 'extensions']
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}  # the latter is generated
root_doc = 'index'

myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 4

autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes stand once, with their class

html_theme = 'furo'
html_title = f'reprefine {release}'
html_static_path = ['static']
html_css_files = ['site.css']
html_js_files = ['zoo.js']
html_theme_options = {'navigation_with_keys': True}
html_show_sourcelink = False
html_show_copyright = False

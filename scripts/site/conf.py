"""Settings of Sphinx for the website of the documents: `make site` builds it into build/site/.

The pages are the Markdown files of the repository, as they are; links between them work there and here.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'scripts' / 'site')]

import kdsr  # noqa: E402

project = 'kdsr'
version = release = kdsr.__version__
copyright = 'the authors of kdsr, Apache-2.0'
root_doc = 'docs/index'
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext'}
include_patterns = ['*.md', 'docs/**', 'datasets/README.md', 'options/README.md', 'benchmarks/results/**']
language = 'en'

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'site_navigation',
    'site_reference',
    'site_mathematics',
]
myst_enable_extensions = ['dollarmath']
myst_fence_as_directive = ['math']
myst_heading_anchors = 4
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
napoleon_custom_sections = ['Shape', 'Example']
suppress_warnings = ['toc.not_included']  # reports of single benchmarks, reached by links
html_math_renderer = 'mathml'

html_theme = 'furo'
html_title = 'kdsr'
html_static_path = ['static']
html_css_files = ['site.css']
html_extra_path = ['extra']
html_show_sphinx = False
html_copy_source = False
html_theme_options = {'navigation_with_keys': True}

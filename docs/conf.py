"""How the documentation is built: Sphinx, MyST for Markdown and notebooks, Furo, MathJax from a package.

Sphinx, because pages, notebooks, code by reference and a search that needs no server come from one build
without a network; Furo, because it reads well on a phone and in the dark.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import handgrad

project = "handgrad"
author = "The handgrad founders"
copyright = f"2026, {author}"
release = version = handgrad.__version__
html_title = "handgrad"

extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline", "sphinx_copybutton", "_generate"]
exclude_patterns = ["_build", "_generate", "_static"]
nitpicky = True
smartquotes = False  # options begin with two hyphens

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
nb_execution_mode = "off"  # _generate/lessons.py has executed them
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_code_prompt_show = "Show our answer"  # the one kind of cell that is folded away
nb_code_prompt_hide = "Hide our answer"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["handgrad.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
mathjax3_config = {"chtml": {"displayAlign": "left", "displayIndent": "1.5em"}}
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}

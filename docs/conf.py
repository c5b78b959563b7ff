# SPDX-License-Identifier: BSD-3-Clause
"""How the documentation is built: ``make docs``, or ``sphinx-build -W -n docs OUT``.

The numbers of the pages on reproduction and speed are read from ``benchmarks/results``
(`_results.py`), and what the scripts in ``examples`` print and draw is made by running
them.
"""

import importlib
import os
import sys
import warnings
from pathlib import Path

from docutils import nodes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE), str(ROOT / "benchmarks")]
# Examples run in processes of their own, which find the package as this one does, and
# two at a time: each on one core, as threads that wait for each other help nobody.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import _results  # noqa: E402

import sklearn_scan  # noqa: E402

project = "sklearn_scan"
author = "The sklearn-scan developers"
copyright = author
version = release = sklearn_scan.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["auto_examples/**/*.ipynb", "auto_examples/**/*.py"]
templates_path = ["_templates"]
nitpicky = True

# Pages.

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "substitution"]
myst_heading_anchors = 3
myst_substitutions = _results.load()

# The reference.

autosummary_generate = True
autodoc_typehints = "none"  # types are in the text of numpydoc
autodoc_default_options = {
    "members": True,
    "inherited-members": True,
    # Of scikit-learn's metadata routing, which nothing here takes part in.
    "exclude-members": "get_metadata_routing,set_fit_request,set_predict_request,"
    "set_score_request",
}
numpydoc_class_members_toctree = False
numpydoc_show_inherited_class_members = True

# Examples.

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sklearn_scan",),
    "reference_url": {"sklearn_scan": None},
    "reset_argv": "_gallery.give_arguments",
    "parallel": 2,
    "remove_config_comments": True,
    "show_signature": False,
    "download_all_examples": False,
    "ignore_pattern": r"cluster_folder|search_on_dask|two_processes",
    "within_subsection_order": "_gallery.ReadingOrder",
}
# The pictures are made for a file as well, without a window.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

# The look.

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
# Pages without others below them have nothing to show in the bar on the left.
_ALONE = ("index", "getting_started", "reproduction", "speed", "changes")
html_sidebars = {page: [] for page in _ALONE}
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

linkcheck_timeout = 20
linkcheck_retries = 2

# Names of other libraries. Their inventories would have to be fetched at each build,
# and a build without a network would fail; their addresses follow from the names.

_ADDRESSES = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{name}.html",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{name}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{name}.html",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated/{name}.html",
}
# Sections that the text of inherited methods refers to.
_SECTIONS = {
    "df_output_transform": "https://scikit-learn.org/stable/modules/"
    "df_output_transform.html",
    "sphx_glr_auto_examples_miscellaneous_plot_set_output.py": "https://"
    "scikit-learn.org/stable/auto_examples/miscellaneous/plot_set_output.html",
}


def _link_other_libraries(app, env, node, content):
    """Link what another library has, if it has it."""
    name = node["reftarget"]
    address = _SECTIONS.get(name)
    if address is None and _exists(name):
        address = _ADDRESSES[name.partition(".")[0]].format(name=name)
    if address is None:
        return None
    return nodes.reference("", "", content, internal=False, refuri=address)


def _exists(name):
    module, _, attribute = name.rpartition(".")
    if name.partition(".")[0] not in _ADDRESSES or not module:
        return False
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False


def setup(app):
    """Connect what this file defines."""
    app.connect("missing-reference", _link_other_libraries)

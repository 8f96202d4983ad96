"""The refinement methods, one folder each; see README.md for the layout of a folder."""

from reprefine.registry import import_submodules

import_submodules(__name__)

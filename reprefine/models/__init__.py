"""Plain networks that neither a method nor a task owns."""

from reprefine.registry import import_submodules

import_submodules(__name__)

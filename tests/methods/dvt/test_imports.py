"""What is optional is not imported before it is needed."""

import subprocess
import sys

OPTIONAL = ('tinycudann', 'timm', 'diffusers')
CODE = """
import importlib, pkgutil, sys
import reprefine.methods.dvt as package
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f'reprefine.methods.dvt.{module.name}')
print([name for name in %r if name in sys.modules])
"""


def test_the_whole_method_imports_without_its_options():
    assert subprocess.check_output([sys.executable, '-c', CODE % (OPTIONAL,)], text=True).strip() == '[]'

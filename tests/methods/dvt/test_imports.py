"""Optional dependencies are imported only when they are needed."""

import subprocess
import sys

OPTIONAL = ('tinycudann', 'timm', 'diffusers')
CODE = """
import importlib, pkgutil, sys
import reprefine.methods.dvt as package
names = [module.name for module in pkgutil.walk_packages(package.__path__, 'reprefine.methods.dvt.')]
for name in names:
    importlib.import_module(name)
assert 'reprefine.methods.dvt.stage1.solvers.encoding' in names
print([name for name in %r if name in sys.modules])
"""


def test_the_whole_method_imports_without_optional_dependencies():
    assert subprocess.check_output([sys.executable, '-c', CODE % (OPTIONAL,)], text=True).strip() == '[]'

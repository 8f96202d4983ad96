"""Importing the package changes no working call of other libraries."""

import ast
import re
from pathlib import Path

import pytest

from reprefine.check_env import installed_versions
from tests.helpers.fresh import run_fresh

TOOLS = Path(__file__).parents[1] / 'tools'
WITH_FORKS = 'onedl-mmengine' in installed_versions()

# Results of calls before and after the import.
CALLS = """
import json, logging, os, pickle, sys, mmengine, mmengine.registry, numpy, torch
from collections import OrderedDict
from mmengine.config import Config
from mmengine.model import BaseModule, initialize
from mmengine.runner import CheckpointLoader, load_checkpoint
logging.disable()

class Thing:
    pass

def initialized():
    part = torch.nn.Linear(1, 1)
    initialize(part, dict(type='Pretrained', checkpoint='weights.pth'))
    return part.weight.item()

def with_getattr():
    with torch.serialization.safe_globals([getattr, OrderedDict]):
        return torch.load('getattr.pth', weights_only=True)

def calls():
    return [
        lambda: type(torch.load('thing.pth', weights_only=False)),
        lambda: type(torch.load('thing.pth')),
        lambda: torch.load('weights.pth'),
        with_getattr,
        lambda: mmengine.load('tuple.yaml'),
        lambda: mmengine.load('call.yaml'),
        lambda: Config.fromfile('tuple.yaml').pretty_text,
        lambda: Config.fromfile('call.yaml').pretty_text,
        lambda: Config.fromfile('plain.py').pretty_text,
        lambda: [Config.fromfile(f'from_{package}.py').to_dict() for package in INHERITED],
        lambda: Config.fromfile('new_style.py').pretty_text,
        lambda: mmengine.load('a.json'),
        lambda: type(mmengine.load('a.pkl')),
        lambda: CheckpointLoader.load_checkpoint('weights.pth'),
        lambda: load_checkpoint(torch.nn.Linear(1, 1), 'weights.pth'),
        lambda: load_checkpoint(torch.nn.Linear(1, 1), 'none.pth'),
        initialized,
    ]

class ByGetattr:
    def __reduce__(self):
        return getattr, (OrderedDict, 'fromkeys')

torch.save(Thing(), 'thing.pth')
torch.save(dict(a=ByGetattr()), 'getattr.pth')
torch.save(dict(meta=dict(cfg='x = 1'), state_dict=torch.nn.Linear(1, 1).state_dict()), 'weights.pth')
pickle.dump(Thing(), open('a.pkl', 'wb'))
json.dump(dict(a=1), open('a.json', 'w'))
open('tuple.yaml', 'w').write('a: !!python/tuple [1, 2]')
open('call.yaml', 'w').write('a: !!python/object/apply:os.getcwd []')
open('plain.py', 'w').write('model = dict(type="A", widths=(1, 2))')
for package in INHERITED:
    open(f'from_{package}.py', 'w').write(f'_base_ = "{package}::_base_/default_runtime.py"')
open('base.py', 'w').write('model = dict(a=1)')
open('new_style.py', 'w').write('from mmengine.config import read_base\\nwith read_base():\\n    from .base import *')

def results():
    lines = [str(dict(os.environ))]
    for call in calls():
        try:
            lines.append(str(call()))
        except Exception as error:
            lines.append(repr(error))
    return lines

before = results()
import MODULE
after = results()
for one, two in zip(before, after, strict=True):
    assert one == two, (one, two)
print(len(before), [line.split('(')[0] for line in before if 'Error' in line])
"""


@pytest.mark.parametrize(('module', 'hosts'), [('reprefine', ['mmpretrain', 'mmseg']), ('reprefine.engine.runner', [])])
def test_calls_that_work_do_the_same(module, hosts, tmp_path):
    for host in hosts:
        pytest.importorskip(host)
    if WITH_FORKS:  # configs of their mmseg are found only after the import
        hosts = [host for host in hosts if host != 'mmseg']
    output = run_fresh(CALLS.replace('MODULE', module).replace('INHERITED', str(hosts)), tmp_path)
    # torch refuses the class by default, and a missing file is missing; all others work
    assert output.splitlines()[-1] == "18 ['UnpicklingError', 'FileNotFoundError']"


# Every function, class and method of mmengine and mmcv, the entries of its registries, and its loaders.
SNAPSHOT = """
import importlib, inspect, logging, pkgutil, sys, types, warnings
import mmengine, mmcv
logging.disable()
warnings.simplefilter('ignore')

def import_all(package, left_out=()):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):
        if module.name not in left_out:
            try:
                importlib.import_module(module.name)
            except ImportError:  # of an optional package
                pass

def snapshot():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition('.')[0] in ('mmengine', 'mmcv'):
            for key, value in vars(module).items():
                if callable(value):
                    found[f'{name}.{key}'] = value
                if inspect.isclass(value) and value.__module__ == name:
                    members = {f'{name}.{key}.{own}': member for own, member in vars(value).items()}
                    found |= {place: member for place, member in members.items()
                              if isinstance(member, (types.FunctionType, staticmethod, classmethod, property))}
    for key, registry in vars(mmengine.registry).items():
        if isinstance(registry, mmengine.registry.Registry):
            found |= {f'{key}: {entry}': value for entry, value in registry.module_dict.items()}
    found |= {f'loader of {scheme}': value for scheme, value in mmengine.runner.CheckpointLoader._schemes.items()}
    found |= {f'package {key}': value for key, value in mmengine.config.utils.MODULE2PACKAGE.items()}
    return found

import_all(mmengine)
import torchvision, torch.optim
before = snapshot()
import reprefine
import_all(reprefine, left_out=['reprefine.everywhere'])
after = snapshot()
print(len(before) > 3000, sorted(place for place, value in before.items() if after.get(place) is not value))
"""
REPLACED = {
    # Of what is inherited from this package, the default scope builds; of all else, the scope that mmengine adds.
    'mmengine.config.config.Config._get_cfg_path',
    # Adds reading `from reprefine.configs… import`, of modules that do not exist.
    'mmengine.config.config.Config._get_base_modules',
    # Turns hues back where numpy 2 raises.
    'mmcv.adjust_hue',
    'mmcv.image.adjust_hue',
    'mmcv.image.photometric.adjust_hue',
}
if WITH_FORKS:
    REPLACED.add('package mmseg')  # which mmengine would look for by the name of the official distribution


def test_no_function_of_mmengine_is_replaced_but_these():
    counted, replaced = run_fresh(SNAPSHOT).splitlines()[-1].split(' ', 1)
    assert counted == 'True'
    assert set(ast.literal_eval(replaced)) == REPLACED


def test_every_tool_sets_itself_up():
    """All of them call ``run_cli``, or ``run_as_tool``, which does; torchrun starts them, and set-up has no package."""
    tools = [file for file in TOOLS.rglob('*.py') if "__name__ == '__main__'" in file.read_text()]
    assert len(tools) > 40
    called = {file.name: file.read_text().partition("__name__ == '__main__'")[2] for file in tools}
    without = [name for name, code in called.items() if not re.search(r'run_(cli|as_tool)\(', code)]
    assert sorted(without) == ['precompile_torch.py', 'torchrun.py']

"""Where the protection begins, and what a process of ours hands to those that it starts."""

import subprocess
import sys

import pytest
import torch

from tests.helpers.fresh import fresh_environment, run_fresh
from tests.helpers.malicious import system, write_malicious

# Reads an object by torch, a command by YAML, and the text of a config by mmengine's loader.
READ = """
import os, torch, mmengine
from mmengine.runner import CheckpointLoader

def read():
    results = []
    for call in (
        lambda: torch.load('module.pth', weights_only=False),
        lambda: mmengine.load('call.yaml'),
        lambda: CheckpointLoader.load_checkpoint('config.pth')['meta'],
    ):
        try:
            results.append(call())
        except Exception as error:
            results.append(type(error).__name__)
    return results
"""
UNPROTECTED = "[{'a': Linear(in_features=1, out_features=1, bias=True)}, {'a': 'called'}, {'cfg': 'x = 1'}]"
PROTECTED = ['UnpicklingError', 'UserError', {}]


@pytest.fixture
def folder(tmp_path):
    """A folder with a file for each reader."""
    torch.save(dict(a=torch.nn.Linear(1, 1)), tmp_path / 'module.pth')
    torch.save(dict(meta=dict(cfg='x = 1'), state_dict={}), tmp_path / 'config.pth')
    (tmp_path / 'call.yaml').write_text('a: !!python/object/apply:str [called]')
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['reprefine.everywhere'])\n")
    return tmp_path


@pytest.mark.parametrize(
    'begin',
    [
        'Config.fromfile("config.py")',
        'load_config("empty.py")',
        'try:\n    Runner(torch.nn.Linear(1, 1), work_dir="run", train_cfg={})\nexcept ValueError:\n    pass',
    ],
    ids=['everywhere', 'config', 'Runner'],
)
def test_where_it_begins(folder, begin):
    """There, and not where our modules are imported; and whatever the environment says."""
    (folder / 'empty.py').write_text('model = None\n')
    code = f"""
{READ}
from mmengine.config import Config
from reprefine.engine.cli.launch import load_config
from reprefine.engine.runner import Runner
print(read())
{begin}
print(read())
"""
    output = run_fresh(code, folder, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1').splitlines()
    assert UNPROTECTED in output
    assert output[-1] == str(PROTECTED)


def test_a_tool_is_protected_before_it_begins(folder):
    """What needs torch follows when the tool reads a config."""
    code = f"""
import argparse
from reprefine.engine.errors import run_cli
{READ}
run_cli(lambda args: print(read()[:2]), argparse.ArgumentParser(), [])
"""
    assert run_fresh(code, folder).splitlines()[-1] == str(PROTECTED[:2])


def test_processes_inherit_it(folder):
    """One that is spawned, as a loader's worker may be, and one that runs a script; torch looks at the environment."""
    (folder / 'child.py').write_text(
        'import os, mmengine, reprefine\n'
        'def tell():\n'
        '    try:\n'
        '        print(mmengine.load("call.yaml"))\n'
        '    except ValueError as error:\n'
        '        print(type(error).__name__, os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"])\n'
        'if __name__ == "__main__":\n'
        '    tell()\n'
    )
    (folder / 'parent.py').write_text(
        'import multiprocessing, subprocess, sys\n'
        'from child import tell\n'
        'from reprefine.set_up import set_up\n'
        'if __name__ == "__main__":\n'
        '    set_up(loaders=False)\n'
        '    process = multiprocessing.get_context("spawn").Process(target=tell)\n'
        '    process.start()\n'
        '    process.join()\n'
        '    subprocess.check_call([sys.executable, "child.py"])\n'
    )
    command = [sys.executable, 'parent.py']
    output = subprocess.check_output(command, text=True, cwd=folder, env=fresh_environment())
    assert output.split() == ['UserError', '1'] * 2


def test_without_mmengine_a_tool_still_runs():
    """The environment check is one."""
    code = """
import argparse, sys
sys.modules['mmengine'] = None
from reprefine.engine.errors import run_cli
run_cli(lambda args: print('said'), argparse.ArgumentParser(), [])
"""
    assert run_fresh(code) == 'said'


def test_our_own_reader_needs_no_set_up(tmp_path):
    """Neither for files nor for URLs, whose loaders are mmengine's; and it leaves the environment as it was."""
    write_malicious(tmp_path / 'a.pth', dict(payload=system(tmp_path / 'created')))
    code = """
import os, torch
from mmengine.runner import CheckpointLoader
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.errors import UserError

@CheckpointLoader.register_scheme(prefixes='my://')
def load(filename, map_location):
    return torch.load(filename.removeprefix('my://'), map_location, weights_only=False)

before = dict(os.environ)
for name in ('a.pth', 'my://a.pth'):
    try:
        read_checkpoint(name)
    except UserError as error:
        print('refused: it holds objects' in str(error))
print(dict(os.environ) == before)
"""
    output = run_fresh(code, tmp_path, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1').splitlines()
    assert output.count('True') == 3
    assert not (tmp_path / 'created').exists()


FORMATTED = """
from mmengine.config import Config, config
from reprefine.set_up import set_up

cfg = Config(dict(model=dict(type='A', widths=list(range(40))), name='a' * 90))
former = cfg.pretty_text
assert len(former.splitlines()) > 3
set_up(loaders=False)
assert cfg.pretty_text == former
# The fork's module has no formatter of its own that could be kept from working twice.
assert (cfg.pretty_text is cfg.pretty_text) == hasattr(config, 'FormatCode')
cfg.model.widths[0] = 7
assert cfg.pretty_text == former.replace('0,', '7,', 1)
print('done')
"""


def test_the_text_of_a_config_is_formatted_once_and_as_mmengine_does():
    assert run_fresh(FORMATTED) == 'done'


def test_a_mmengine_that_imports_the_formatter_elsewhere_is_left_to_it():
    """As the fork's does."""
    code = (
        'from mmengine.config import config\n'
        'vars(config).pop("FormatCode", None)\n'
        'from reprefine.set_up import set_up; set_up(loaders=False)\n'
        'print(hasattr(config, "FormatCode"), config.is_installed.cache_info().currsize)'
    )
    assert run_fresh(code).split() == ['False', '0']


def test_inheriting_by_package_says_nothing_of_pkg_resources(tmp_path):
    pytest.importorskip('mmpretrain')
    (tmp_path / 'a.py').write_text("_base_ = 'mmpretrain::_base_/default_runtime.py'\n")
    code = "from reprefine.engine.cli.launch import parse_config; parse_config('a.py')"
    command = [sys.executable, '-W', 'always', '-c', code]
    env = fresh_environment()
    result = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path, check=True, env=env)
    assert 'pkg_resources' not in result.stderr

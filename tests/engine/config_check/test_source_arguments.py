"""Arguments that are read from the source of classes are those of the imported classes."""

import importlib
import subprocess
import sys
from pkgutil import resolve_name

import mmengine.registry
import pytest

from reprefine import registry as ours
from reprefine.engine.config_check import source_arguments
from reprefine.engine.config_check.lookup import find_type
from reprefine.engine.config_check.schema import MODEL_REGISTRIES, RUNNER_SCHEMAS, NodeSchema
from reprefine.engine.config_check.signatures import accepted_arguments
from reprefine.engine.config_check.source_arguments import arguments_in_source, arguments_of_default
from reprefine.registered import registered
from tests.helpers.fresh import fresh_environment
from tests.helpers.run import DIGITS

ROOTS = [key for key, value in vars(mmengine.registry).items() if isinstance(value, mmengine.registry.Registry)]
SCOPES = ['mmengine', 'mmpretrain', 'mmdet', 'mmseg', 'mmpose', 'reprefine']


@pytest.fixture
def nothing_imported(monkeypatch):
    """Make the functions work as in a process in which no registry is imported."""
    monkeypatch.setattr(source_arguments, '_is_imported', lambda scope: False)
    monkeypatch.setattr(source_arguments, 'roots', None)


def names_in(scope: str, registries: tuple[str, ...]) -> list[str]:
    """Return all that is registered in a scope or found from there."""
    own = [key for package in {scope, *source_arguments.BASES} for key in registered(package)]
    return sorted({name for registry, name in own if registry in registries})


@pytest.mark.parametrize('scope', SCOPES)
def test_arguments_are_those_of_the_imported_class(scope, nothing_imported):
    pytest.importorskip(scope)
    known = 0
    for registries in (MODEL_REGISTRIES, *((name,) for name in ROOTS)):
        for name in names_in(scope, registries):
            arguments = arguments_in_source(name, registries, scope)
            if arguments is None:
                continue
            try:
                target = find_type(name, registries, scope, name)
            except ValueError:  # such as a class of the package's tests, or for another device
                continue
            if getattr(target, '__name__', '') == 'ask_install':  # mmpretrain's stand-in for what needs another package
                continue
            assert arguments == accepted_arguments(target), (scope, registries, name)
            known += 1
    assert known > 40


def all_schemas(schema: NodeSchema, seen: set[int]) -> list[NodeSchema]:
    if id(schema) in seen:
        return []
    seen.add(id(schema))
    return [schema, *(other for child in schema.children.values() for other in all_schemas(child, seen))]


def test_defaults_are_there():
    nodes = ({}, dict(by_epoch=False), dict(optimizer={}), dict(metrics=[]))
    found = [schema for start in RUNNER_SCHEMAS.values() for schema in all_schemas(start, set())]
    defaults = {schema.default(node) for schema in found for node in nodes} - {None}
    assert len(defaults) == 12
    found = {path: arguments_of_default(path) for path in defaults}
    for path, arguments in found.items():
        assert arguments is None or arguments == accepted_arguments(resolve_name(path)), path
    assert sum(arguments is not None for arguments in found.values()) >= 6


def test_all_of_ours_is_found_and_is_what_the_look_up_imports():
    for (registry, name), source in registered('reprefine').items():
        target = getattr(ours, registry).get(name)
        assert target is getattr(importlib.import_module(source.module), source.name)
    # nothing is registered in another way
    for registry in vars(ours).values():
        if isinstance(registry, ours.LazyRegistry):
            own = {name for name, value in registry.module_dict.items() if value.__module__.startswith('reprefine.')}
            assert own <= {name for key, name in registered('reprefine') if key == registry.variable}


def test_what_may_have_been_replaced_is_not_arguments_by_source():
    importlib.import_module('mmpretrain.registry')
    assert arguments_in_source('ResNet', ['MODELS'], 'mmpretrain') is None


def test_a_misspelt_key_is_refused_before_anything_heavy_is_imported(tmp_path):
    (tmp_path / 'a.py').write_text(f'_base_ = {DIGITS!r}\nmodel = dict(backbone=dict(img_sise=8))\n')
    code = """
import argparse, sys
from reprefine.engine.cli import train
from reprefine.engine.errors import run_cli
for argv in (['a.py'], ['a.py', '--cfg-options', 'train_cfg.max_epoch=3'], ['a.py', '--cfg-options', 'model.nek=3']):
    parser = argparse.ArgumentParser('train')
    train.add_train_arguments(parser)
    assert run_cli(train.train, parser, argv) == 1
print([name for name in ('torch', 'mmcv', 'mmpretrain', 'reprefine.registry') if name in sys.modules])
"""
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path, env=fresh_environment())
    assert result.stdout.strip() == '[]', result.stderr
    lines = result.stderr.splitlines()
    assert (
        "model.backbone.img_sise: VisionTransformer takes no argument 'img_sise'; did you mean 'img_size'?" in lines[0]
    )
    assert "'train_cfg.max_epoch' is neither in the config nor an argument there; did you mean" in lines[1]
    assert "'model.nek' is neither in the config nor an argument there; did you mean 'model.neck'?" in lines[2]


def test_a_classification_imports_no_other_host(tmp_path):
    """Nor do what it takes of ours import other methods and tasks."""
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmdet')
    code = f"""
import sys
from mmengine.registry import DefaultScope, MODELS
from reprefine.engine.cli.launch import build_runner, load_config
cfg = load_config({DIGITS!r})
cfg.work_dir = 'run'
build_runner(cfg)
print([name for name in ('mmdet.models', 'mmseg', 'mmpose', 'diffusers', 'sklearn') if name in sys.modules])
parts = ('reprefine.methods.', 'reprefine.tasks.')
print(sorted(name for name in sys.modules if name.startswith(parts) and name.count('.') == 2))
with DefaultScope.overwrite_default_scope('mmdet'):
    MODELS.build(dict(type='ResLayerExtraNorm', depth=50, norm_cfg=dict(type='BN')))
"""
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path, env=fresh_environment(), check=True)
    assert result.stdout.splitlines()[-2:] == ['[]', "['reprefine.tasks.classification']"]

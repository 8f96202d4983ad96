"""What modules declare of their arguments for the check of configs."""

import pytest

from reprefine.engine.config_check import schema
from reprefine.engine.config_check.schema import KINDS, declared_schemas


def test_arguments_that_modules_declare_are_of_a_kind_that_exists(monkeypatch):
    assert declared_schemas()['KNNMonitorHook.bank'] is KINDS['dataloader']
    declared_schemas.cache_clear()
    monkeypatch.setattr(schema, 'declared', lambda package, name: [{'AHook.bank': 'dataloder'}])
    try:
        with pytest.raises(ValueError, match="'AHook.bank' is of the unknown kind 'dataloder': use dataloader"):
            declared_schemas()
    finally:
        declared_schemas.cache_clear()

"""Renaming of state dict keys, and state dicts nested in published checkpoints."""

import pytest

from reprefine.engine.checkpoints.rename_keys import parse_renames, rename_key, unwrap_state_dict
from reprefine.engine.errors import UserError


def test_pairs_are_split_at_the_last_equals_sign_and_applied_one_after_another():
    renames = parse_renames(['^a=(b)=c', r'c\.(\d)=d\1'])
    assert renames == [('^a=(b)', 'c'), (r'c\.(\d)', r'd\1')]
    assert rename_key('a=b.1', renames) == 'd1'


def test_invalid_renamings_are_refused():
    with pytest.raises(UserError, match='expected PATTERN=REPLACEMENT'):
        parse_renames(['a'])
    with pytest.raises(UserError, match='no regular expression'):
        rename_key('a', [('(', '')])


def test_state_dicts_are_found_in_nested_entries_of_the_given_names():
    assert unwrap_state_dict(dict(model=dict(state_dict=dict(w=1))), ('model', 'state_dict')) == {'w': 1}
    assert unwrap_state_dict(dict(net=dict(w=1)), ('model',)) == {'net': {'w': 1}}

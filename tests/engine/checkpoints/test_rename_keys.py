"""Renaming of weights, and finding them in published checkpoints."""

import pytest

from reprefine.engine.checkpoints.rename_keys import parse_renames, rename_key, unwrap_state_dict
from reprefine.engine.errors import UserError


def test_pairs_are_split_at_the_last_sign_and_applied_in_turn():
    renames = parse_renames(['^a=(b)=c', r'c\.(\d)=d\1'])
    assert renames == [('^a=(b)', 'c'), (r'c\.(\d)', r'd\1')]
    assert rename_key('a=b.1', renames) == 'd1'


def test_faults_are_named():
    with pytest.raises(UserError, match='expected PATTERN=REPLACEMENT'):
        parse_renames(['a'])
    with pytest.raises(UserError, match='no regular expression'):
        rename_key('a', [('(', '')])


def test_weights_are_unwrapped_from_nested_containers_of_the_given_names():
    assert unwrap_state_dict(dict(model=dict(state_dict=dict(w=1))), ('model', 'state_dict')) == {'w': 1}
    assert unwrap_state_dict(dict(net=dict(w=1)), ('model',)) == {'net': {'w': 1}}

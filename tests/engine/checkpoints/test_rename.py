"""Renaming of weights, and finding them in published checkpoints."""

import pytest

from reprefine.engine.checkpoints.rename import parse_renames, rename, weights_of
from reprefine.engine.errors import UserError


def test_pairs_are_split_at_the_last_sign_and_applied_in_turn():
    renames = parse_renames(['^a=(b)=c', r'c\.(\d)=d\1'])
    assert renames == [('^a=(b)', 'c'), (r'c\.(\d)', r'd\1')]
    assert rename('a=b.1', renames) == 'd1'


def test_faults_are_named():
    with pytest.raises(UserError, match='expected PATTERN=REPLACEMENT'):
        parse_renames(['a'])
    with pytest.raises(UserError, match='no regular expression'):
        rename('a', [('(', '')])


def test_weights_are_unwrapped_from_nested_containers_of_the_given_names():
    assert weights_of(dict(model=dict(state_dict=dict(w=1))), ('model', 'state_dict')) == {'w': 1}
    assert weights_of(dict(net=dict(w=1)), ('model',)) == {'net': {'w': 1}}

"""Timesteps of the converted layers."""

import re
from collections.abc import Sequence

from reprefine.engine.errors import UserError

TimestepPolicy = str | int | Sequence[int] | dict[str, int]


def assign_timesteps(names: Sequence[str], policy: TimestepPolicy, steps: int) -> dict[str, int]:
    """Return the timestep of every converted layer.

    Args:
        names: Qualified names in forward order.
        policy: ``'descending'`` (N..1, as in the paper), ``'ascending'``, ``'reference'`` (the counter of the released
            code, which restarts in every sub-tree), an int for all, a list in order, or a dict from regular expression
            to int, of which the first that is found in the name applies.
        steps: Length of the schedule.

    Raises:
        UserError: If a policy that counts lacks steps, a list has another length, or a name has no timestep.
    """
    count = len(names)
    if policy in ('descending', 'ascending', 'reference') and count > steps - 1:  # other policies may repeat a timestep
        raise UserError(
            f'{count} layers need {count} timesteps, but the schedule has {steps} steps: raise steps, or give an int'
        )
    if policy == 'descending':
        return {name: count - i for i, name in enumerate(names)}
    if policy == 'ascending':
        return {name: i + 1 for i, name in enumerate(names)}
    if policy == 'reference':
        return reference_timesteps(names)
    if isinstance(policy, int):
        return dict.fromkeys(names, policy)
    if isinstance(policy, dict):
        return {name: _first_match(name, policy) for name in names}
    if isinstance(policy, str):
        raise UserError(f"unknown timestep policy '{policy}': use 'descending', 'ascending' or 'reference'")
    if len(policy) != count:
        raise UserError(f'{len(policy)} timesteps are given for {count} layers')
    return dict(zip(names, policy, strict=True))


def _first_match(name: str, policy: dict[str, int]) -> int:
    for pattern, timestep in policy.items():
        if re.search(pattern, name):
            return timestep
    raise UserError(f"no pattern of the timestep dict matches the layer '{name}'")


def reference_timesteps(names: Sequence[str]) -> dict[str, int]:
    """Return the timesteps of the released code, whose recursion passes its counter by value.

    The counter of a layer includes only earlier converted layers that are siblings of the layer or of one of its
    parents. The layers of mmcv's FFN, the first of which is nested deeper than the second, count as ``mlp.fc1`` and
    ``mlp.fc2`` of the released code.

    Args:
        names: Qualified names of the converted layers in registration order.
    """
    found: dict[str, int] = {}
    parents: list[str] = []
    for name in names:
        released = re.sub(r'\bffn\.layers\.1$', 'mlp.fc2', re.sub(r'\bffn\.layers\.0\.0$', 'mlp.fc1', name))
        found[name] = len(names) - sum(not parent or released.startswith(f'{parent}.') for parent in parents)
        parents.append(released.rpartition('.')[0])
    return found

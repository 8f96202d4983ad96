"""Import of checkpoints of the released code.

Their keys may have prefixes of wrappers (``module.``, ``1.``), their weights half precision. The classifier is ``fc``.
A PD convolution has ``ori_*`` and ``new_*`` (dense), ``ac_convbn.ver_*`` and ``ac_convbn.hor_*`` (strips), ``group_*``
and the gate ``fc.0``, ``fc.2``. All tensors must match the model, because some published links lead to the wrong file.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.rename_keys import rename_key, unwrap_state_dict
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .layers.branches import BRANCHES
from .layers.lookup import pd_convs

CONTAINERS = ('state_dict', 'model', 'net')
PARTS = {
    'ori_conv': 'standard1.conv',
    'ori_bn': 'standard1.bn',
    'new_conv': 'standard2.conv',
    'new_bn': 'standard2.bn',
    'ac_convbn.ver_conv': 'skeleton.vertical.conv',
    'ac_convbn.ver_bn': 'skeleton.vertical.bn',
    'ac_convbn.hor_conv': 'skeleton.horizontal.conv',
    'ac_convbn.hor_bn': 'skeleton.horizontal.bn',
    'group_conv': 'group.conv',
    'group_bn': 'group.bn',
    'fc.0': 'gate.fc1',
    'fc.2': 'gate.fc2',
}
_PART = re.compile(rf'\.({"|".join(re.escape(part) for part in PARTS)})\.')


def import_published(
    model: nn.Module, source: str | Path, target: str | Path, renames: Sequence[tuple[str, str]] = ()
) -> int:
    """Convert a checkpoint of the released code to the keys of ``model``, in float32.

    Args:
        model: Classifier with a :class:`~.backbone.PDResNet` in training form, built from its config.
        source: Checkpoint of the released code.
        target: File to write, atomically.
        renames: Pairs of regular expression and replacement for the keys of the file, applied in order before all else.

    Returns:
        Number of PD convolutions.

    Raises:
        UserError: If the target exists, or the source cannot be read or does not match the model.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    checkpoint = read_checkpoint(str(source))
    checkpoint = unwrap_state_dict(checkpoint, CONTAINERS)
    try:
        state = rename_weights(checkpoint, renames)
        _check_pd_cfg(state, model)
        expected = model.state_dict()
        for name in expected.keys() - state.keys():
            if name.endswith('num_batches_tracked'):  # missing in files of old torch versions
                state[name] = expected[name]
        _check_keys_and_shapes(state, expected)
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    with atomic_write(target) as partial:
        torch.save(dict(meta=dict(source=Path(source).name), state_dict=state), partial)
    return len(pd_convs(model))


def rename_weights(weights: dict[str, Tensor], renames: Sequence[tuple[str, str]] = ()) -> dict[str, Tensor]:
    """Return the weights of a published file under the keys of reprefine, floating-point ones in float32.

    Args:
        weights: State dict of the file.
        renames: As in :func:`import_published`.

    Raises:
        UserError: If two weights would get the same key.
    """
    state = {}
    for key, value in weights.items():
        if not torch.is_tensor(value):
            continue
        name = _rename_weight(key, renames)
        if name in state:
            raise UserError(f'two of its weights get the key {name}: change the renames')
        state[name] = value.float() if value.is_floating_point() else value
    return state


def _rename_weight(key: str, renames: Sequence[tuple[str, str]]) -> str:
    key = rename_key(key, renames)
    key = re.sub(r'^(module\.)?(1\.)?', '', key)
    if key.startswith('fc.'):
        return f'head.{key}'
    return 'backbone.' + _PART.sub(lambda match: f'.{PARTS[match[1]]}.', key)


def _check_pd_cfg(state: dict[str, Tensor], model: nn.Module) -> None:
    """Raise if branches or gate of a file differ from the model, with the ``pd_cfg`` that matches the file."""
    convs = pd_convs(model)
    if not convs or any(conv.deploy for conv in convs.values()):
        raise UserError('the config has no PD convolution in training form: use a config that matches the file')
    name, conv = next(iter(convs.items()))
    layer = {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f'{name}.')}
    branches = tuple(branch for branch in BRANCHES if any(key.startswith(f'{branch}.') for key in layer))
    if not branches:
        raise UserError('it has no branches: use a checkpoint of PD-A or PD-B, or rename its keys')
    gate = layer.get('gate.fc1.weight')
    expected = dict(mode=conv.mode, branches=conv.branches)
    found = dict(mode='A' if gate is None else 'B', branches=branches)
    if gate is not None:
        found['reduction'], expected['reduction'] = gate.shape[1] // gate.shape[0], conv.reduction
    if found != expected:
        raise UserError(f'its layers have other settings than the model, {expected}: set pd_cfg={found}')


def _check_keys_and_shapes(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    reshaped = [name for name in state.keys() & expected.keys() if state[name].shape != expected[name].shape]
    problems = (
        ('missing', expected.keys() - state.keys()),
        ('unexpected', state.keys() - expected.keys()),
        ('of another shape', reshaped),
    )
    listed = '; '.join(f'{problem}: {", ".join(sorted(names)[:4])}' for problem, names in problems if names)
    if listed:
        raise UserError(f'its weights do not match the model ({listed}): rename them, or use the matching config')

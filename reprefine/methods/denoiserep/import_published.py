"""Import of checkpoints of the released code.

In its checkpoints a denoising layer has ``weight`` and ``bias`` of the base layer under the base layer's name. Below
that name are a linear predictor, a time network of two linear layers whose names contain ``time_mlp``, and the
constants of the noise schedule, vectors of one length. Names of predictors contain ``dm``. Other parts of the names
vary between releases: parts are identified by position and shape, every key must be used, and ``renames`` maps names
that differ.

A checkpoint has no timesteps. They follow from names and order of its layers, as the released code counts them
(:func:`~.conversion.timesteps.reference_timesteps`), and are written into our state dict. Nor does a checkpoint say
whether it is merged, since merged layers of the released code keep their predictors; only a bias that the base layer
does not have shows it. The released code evaluates the stored weights without denoising, so that a published accuracy
is that of the *baseline* with these weights, without predictors.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.deploy.meta import is_deployed
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.rename_keys import rename_key, unwrap_state_dict
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .conversion.converted import denoise_layers
from .conversion.timesteps import reference_timesteps
from .functional import linear_betas, sinusoidal_embedding
from .layers.base import DenoiseLayer
from .layers.noise_predictor import NoisePredictor
from .model import DenoiseRep

CONTAINERS = ('state_dict', 'model')
PREDICTOR, TIME_NETWORK = 'dm', 'time_mlp'


def import_published(
    model: nn.Module, source: str | Path, target: str | Path, renames: Sequence[tuple[str, str]] = ()
) -> int:
    """Convert a checkpoint of the released code to the names of ``model``.

    Args:
        model: The :class:`~.model.DenoiseRep` that is to load the result, or the baseline, for which the predictors are
            dropped. For predictors without time network, that of the checkpoint is added to the bias.
        source: Checkpoint of the released code.
        target: File to write, atomically.
        renames: Pairs of regular expression and replacement for the names in the checkpoint, applied one after
            another; a name that becomes empty is dropped.

    Returns:
        Number of denoising layers in the checkpoint.

    Raises:
        UserError: If the target exists, or the source cannot be read, is merged, or does not match the model exactly.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    checkpoint = read_checkpoint(str(source))
    layers = denoise_layers(model) if isinstance(model, DenoiseRep) else {}
    try:
        origins = _renamed(checkpoint, renames)
        published, parts = split_parts({name: value for name, (_, value) in origins.items()})
        released = reference_timesteps([origins[f'{name}.weight'][0].removesuffix('.weight') for name in parts])
        timesteps = dict(zip(parts, released.values(), strict=True))
        if layers:
            _check_not_merged(published, parts, layers)
            _check_names(parts, layers, 'noise predictors')
        for name, layer in layers.items():
            published |= _predictor_state(name, parts[name], layer.denoiser, timesteps[name])
        _check_names(published, model.state_dict(), 'weights')
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    with atomic_write(target) as partial:
        torch.save(dict(meta=dict(source=Path(source).name), state_dict=published), partial)
    return len(parts)


def _renamed(checkpoint: dict[str, Any], renames: Sequence[tuple[str, str]]) -> dict[str, tuple[str, Tensor]]:
    """Return the name in the checkpoint and the value of every weight, by its new name."""
    if is_deployed(checkpoint, 'Denoise'):
        raise UserError('it is a checkpoint of the deployed form of this package, not of the released code')
    checkpoint = unwrap_state_dict(checkpoint, CONTAINERS)
    renamed = {}
    for key, value in checkpoint.items():
        name = rename_key(key.removeprefix('module.'), renames)
        if name in renamed:
            raise UserError(f'two of its weights are called {name} after renaming')
        if name:
            renamed[name] = key, value
    return renamed


def split_parts(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Split a state dict of the released code into the weights of the base model and the parts of each predictor.

    Args:
        weights: State dict, in the order in which the model defines its weights.

    Returns:
        The state dict of the base model, and for the name of each denoising layer its other tensors by their names
        below it.
    """
    names = {layer for key in weights if (layer := _layer_of(key, weights))}
    base: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        layer = next((key[:end] for end in _dots(key) if key[:end] in names), None)
        if layer is None or key[len(layer) + 1 :] in ('weight', 'bias'):
            base[key] = value
        else:
            parts.setdefault(layer, {})[key[len(layer) + 1 :]] = value
    return base, parts


def _layer_of(key: str, weights: dict[str, Tensor]) -> str | None:
    """Return the name of the denoising layer that a key of a predictor or time network belongs to."""
    for end in _dots(key):
        child = key[end + 1 :].partition('.')[0]
        if (PREDICTOR in child or TIME_NETWORK in child) and f'{key[:end]}.weight' in weights:
            return key[:end]
    return None


def _dots(key: str) -> list[int]:
    """Return the positions of the dots in a key."""
    return [match.start() for match in re.finditer(r'\.', key)]


def _predictor_state(
    name: str, parts: dict[str, Tensor], predictor: NoisePredictor, timestep: int
) -> dict[str, Tensor]:
    """Return the state dict of the predictor of the layer ``name`` from its parts in the released code."""
    linear = {part: value for part, value in parts.items() if part.endswith(('weight', 'bias'))}
    time = {part: value for part, value in linear.items() if TIME_NETWORK in part}
    matrices = [value for part, value in linear.items() if part not in time]
    if len(matrices) != 2 or len(time) not in (0, 4):
        raise UserError(f'{name} has no predictor with a bias and a time network of two layers: {_listing(linear)}')
    _check_schedule(name, {part: value for part, value in parts.items() if part not in linear}, predictor.steps)
    if predictor.bias is None:
        raise UserError(f"{name} has a predictor with bias, but no bias itself: set model.denoise.bias_policy='add'")
    weight, bias = sorted(matrices, key=Tensor.dim, reverse=True)
    state = dict(weight=weight, timestep=torch.tensor(timestep), schedule=predictor.schedule, side=predictor.side)
    if predictor.time_embed is not None:
        keys = ('mlp.0.weight', 'mlp.0.bias', 'mlp.2.weight', 'mlp.2.bias')
        state |= {f'time_embed.{key}': value for key, value in zip(keys, time.values(), strict=False)}
    elif time:
        constant = weight.double() @ time_vector(timestep, *time.values())
        bias = (bias.double() + constant).to(bias.dtype)
    return {f'{name}.denoiser.{key}': value for key, value in (state | dict(bias=bias)).items()}


def time_vector(timestep: int, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor) -> Tensor:
    """Return ``tau = M2 GELU(M1 e(T) + m1) + m2`` in float64, shape ``[C]``.

    Args:
        timestep: ``T`` of the layer.
        first: ``M1``, shape ``[C, E]``.
        first_bias: ``m1``, shape ``[C]``.
        second: ``M2``, shape ``[C, C]``.
        second_bias: ``m2``, shape ``[C]``.
    """
    embedding = sinusoidal_embedding(timestep, first.shape[1])
    hidden = F.gelu(F.linear(embedding, first.double(), first_bias.double()))
    return F.linear(hidden, second.double(), second_bias.double())


def _check_schedule(name: str, constants: dict[str, Tensor], steps: int) -> None:
    """Check that the constants of a layer are vectors over the steps of the schedule, with the model's betas."""
    other = [part for part, value in constants.items() if _shape(value) != (steps,)]
    if other:
        raise UserError(f'{name} has parts that are not vectors over the {steps} steps of the model: {_listing(other)}')
    for part, value in constants.items():
        if part.endswith('betas') and not torch.allclose(value.double(), linear_betas(steps), rtol=1e-4):
            raise UserError(f'{name}.{part} is not the noise schedule of the model')


def _check_not_merged(
    published: dict[str, Tensor], parts: dict[str, dict[str, Tensor]], layers: dict[str, DenoiseLayer]
) -> None:
    if not parts:
        raise UserError('it has no noise predictor: it is that of a baseline, or of a merged model')
    gained = [name for name, layer in layers.items() if layer.bias is None and f'{name}.bias' in published]
    emptied = [name for name in layers if published.get(f'{name}.bias', torch.ones(1)).numel() == 0]
    if gained or emptied:
        raise UserError(
            f'it is merged already: {(gained + emptied)[0]} has a bias that the base layer lacks; give one that is '
            'not merged, or the baseline config'
        )


def _check_names(found: dict, expected: dict, kind: str) -> None:
    """Check that names are the expected ones, and shapes if the kind is ``'weights'``."""
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    common = found.keys() & expected.keys()
    mismatched = [name for name in common if _shape(found[name]) != _shape(expected[name])] if kind == 'weights' else []
    problems = (('missing', missing), ('unexpected', unexpected), ('size mismatch', mismatched))
    listed = '; '.join(f'{problem}: {_listing(names)}' for problem, names in problems if names)
    if listed:
        raise UserError(f'its {kind} do not fit the model ({listed}); rename them, or give the config that fits')


def _shape(value: object) -> torch.Size | None:
    return value.shape if torch.is_tensor(value) else None


def _listing(names: Sequence[str]) -> str:
    more = f' and {len(names) - 6} more' if len(names) > 6 else ''
    return ', '.join(sorted(names)[:6]) + more

"""Import of checkpoints of the released code.

What is certain about its files: a denoising layer keeps ``weight`` and ``bias`` of the host under the host's name;
below that name lie one linear predictor, a time network of two linear layers whose names contain ``time_mlp``, and the
constants of the noise schedule, vectors of one length. Names of predictor parts contain ``dm``. The rest of the names
is not relied on: parts are told apart by place and shape, every key is accounted for, and ``renames`` bridges others.

A file holds no timestep; it follows from the names and the order of the layers in the file, as the released code
counts them (:func:`~.select.reference_timesteps`), and goes into our state. Nor does a file tell that it was merged:
merged layers of the released code keep their predictors. Only a bias that the host does not have gives a merge away.
The released code evaluates the stored weights as they are, so a published accuracy belongs to the import into the
*baseline* model, without predictors.
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
from .conversion.select import reference_timesteps
from .functional import linear_betas, sinusoidal_embedding
from .layers.base import DenoiseLayer
from .layers.noise_predictor import NoisePredictor
from .model import DenoiseRep

CONTAINERS = ('state_dict', 'model')
PREDICTOR, TIME_NETWORK = 'dm', 'time_mlp'


def import_published(
    model: nn.Module, source: str | Path, target: str | Path, renames: Sequence[tuple[str, str]] = ()
) -> int:
    """Write a checkpoint of the released code anew under the names of ``model``.

    Args:
        model: The :class:`~.model.DenoiseRep` that the file is for, or the plain baseline, which gets the stored
            weights without predictors. A model without time network gets it folded into the predictor's bias.
        source: Checkpoint of the released code.
        target: File to write; it appears whole or not at all.
        renames: Pairs of pattern and replacement for the names in the file, applied in turn; a name that becomes
            empty is dropped.

    Returns:
        Number of denoising layers found in the file.

    Raises:
        UserError: If the target exists, or the source cannot be read, is merged, or does not fill exactly the model.
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
            _refuse_merged(published, parts, layers)
            _check_names(parts, layers, 'denoisers')
        for name, layer in layers.items():
            published |= _own_state(name, parts[name], layer.denoiser, timesteps[name])
        _check_names(published, model.state_dict(), 'weights')
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    with atomic_write(target) as partial:
        torch.save(dict(meta=dict(source=Path(source).name), state_dict=published), partial)
    return len(parts)


def _renamed(checkpoint: dict[str, Any], renames: Sequence[tuple[str, str]]) -> dict[str, tuple[str, Tensor]]:
    """Return the name in the file and the value of every weight, by its new name."""
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
    """Split a state dict of the released code into the host's weights and the parts of each denoiser.

    Args:
        weights: State dict, in the order in which the model defines its weights.

    Returns:
        The host's state dict, and for each denoising layer's name its further tensors by their names below it.
    """
    names = {host for key in weights if (host := _host_of(key, weights))}
    plain, parts = {}, {}
    for key, value in weights.items():
        host = next((key[:end] for end in _dots(key) if key[:end] in names), None)
        if host is None or key[len(host) + 1 :] in ('weight', 'bias'):
            plain[key] = value
        else:
            parts.setdefault(host, {})[key[len(host) + 1 :]] = value
    return plain, parts


def _host_of(key: str, weights: dict[str, Tensor]) -> str | None:
    """Return the name of the denoising layer that a key of a predictor or time network belongs to."""
    for end in _dots(key):
        child = key[end + 1 :].partition('.')[0]
        if (PREDICTOR in child or TIME_NETWORK in child) and f'{key[:end]}.weight' in weights:
            return key[:end]
    return None


def _dots(key: str) -> list[int]:
    return [match.start() for match in re.finditer(r'\.', key)]


def _own_state(name: str, parts: dict[str, Tensor], denoiser: NoisePredictor, timestep: int) -> dict[str, Tensor]:
    """Return the state of our denoiser of the layer ``name`` from the published parts."""
    linear = {part: value for part, value in parts.items() if part.endswith(('weight', 'bias'))}
    time = {part: value for part, value in linear.items() if TIME_NETWORK in part}
    predictor = [value for part, value in linear.items() if part not in time]
    if len(predictor) != 2 or len(time) not in (0, 4):
        raise UserError(f'{name} has no predictor with a bias and a time network of two layers: {_listing(linear)}')
    _check_schedule(name, {part: value for part, value in parts.items() if part not in linear}, denoiser.steps)
    if denoiser.bias is None:
        raise UserError(f"{name} has a predictor bias, but no bias of its own: set model.denoise.bias_policy='add'")
    weight, bias = sorted(predictor, key=Tensor.dim, reverse=True)
    state = dict(weight=weight, timestep=torch.tensor(timestep), schedule=denoiser.schedule, side=denoiser.side)
    if denoiser.time_embed is not None:
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
    """Refuse what is no vector over the steps of the model's schedule, and other betas than the model's."""
    odd = [part for part, value in constants.items() if _shape(value) != (steps,)]
    if odd:
        raise UserError(f'{name} has parts that are no vector over the {steps} steps of the model: {_listing(odd)}')
    for part, value in constants.items():
        if part.endswith('betas') and not torch.allclose(value.double(), linear_betas(steps), rtol=1e-4):
            raise UserError(f'{name}.{part} is another noise schedule than the model has')


def _refuse_merged(
    published: dict[str, Tensor], parts: dict[str, dict[str, Tensor]], layers: dict[str, DenoiseLayer]
) -> None:
    if not parts:
        raise UserError('it has no noise predictor: it is that of a baseline, or of a merged model')
    gained = [name for name, layer in layers.items() if layer.bias is None and f'{name}.bias' in published]
    emptied = [name for name in layers if published.get(f'{name}.bias', torch.ones(1)).numel() == 0]
    if gained or emptied:
        raise UserError(
            f'it is merged already, which gave {(gained + emptied)[0]} a bias its host lacks; denoising it again would '
            'count twice'
        )


def _check_names(found: dict, expected: dict, what: str) -> None:
    """Refuse a difference in names, or in shapes where there are some."""
    missing, superfluous = expected.keys() - found.keys(), found.keys() - expected.keys()
    common = found.keys() & expected.keys()
    reshaped = [name for name in common if _shape(found[name]) != _shape(expected[name])] if what == 'weights' else []
    problems = (('missing', missing), ('without a place in the model', superfluous), ('of another shape', reshaped))
    listed = '; '.join(f'{problem}: {_listing(names)}' for problem, names in problems if names)
    if listed:
        raise UserError(f'its {what} do not fit the model ({listed}); rename them, or give the config that fits')


def _shape(value: object) -> torch.Size | None:
    return value.shape if torch.is_tensor(value) else None


def _listing(names: Sequence[str]) -> str:
    more = f' and {len(names) - 6} more' if len(names) > 6 else ''
    return ', '.join(sorted(names)[:6]) + more

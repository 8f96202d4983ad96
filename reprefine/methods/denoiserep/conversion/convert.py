"""Conversion of layers of any model into denoising layers."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from ..functional import LOSS_TYPES
from ..layers.base import DenoiseLayer
from ..layers.linear_conv import DenoiseConv2d, DenoiseLinear
from ..layers.noise_predictor import STEPS
from ..layers.replaced_layer import denoise_replaced
from ..layers.state import DenoiseState
from .checks import check_bias_policy, check_include
from .converted import ConversionError, ConvertedLayer, is_converted, is_reparameterized, report
from .momentum_encoders import copy_predictor, find_momentum_layers, update_averaged_parameters
from .select import Candidate, select_layers
from .timesteps import TimestepPolicy, assign_timesteps


def convert(
    model: nn.Module,
    include: str | Sequence[str] = 'mlp',
    exclude: str | Sequence[str] = (),
    types: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d),
    timestep: TimestepPolicy = 'descending',
    steps: int = 1000,
    step: str = 'ddpm',
    to: int | None = None,
    side: str | None = None,
    bias_policy: str = 'keep',
    loss_type: str = 'l1+l2',
    time_embed: bool = False,
    embed_width: int = 2048,
    bias_noise: bool = False,
    kernel_size: int = 1,
) -> list[ConvertedLayer]:
    """Add a noise predictor to the selected layers of ``model``, in place.

    Parameter names stay the same. In the phase ``'denoise'`` the outputs are those of the unconverted model.

    Args:
        model: Any module. A model that is converted already is not changed.
        include: Preset or regular expressions on qualified names; see :func:`~.select.select_layers`.
        exclude: Regular expressions of names to leave out.
        types: Types of base layers to convert.
        timestep: Policy that assigns a timestep to each layer; see :func:`~.timesteps.assign_timesteps`.
        steps: Length of the noise schedule.
        step: ``'ddpm'`` (reverse step), ``'ddim'`` (deterministic step down to ``to``, not published), ``'none'``
            (identity, a control that trains in the same phases) or ``'selected'`` (identity until
            :class:`~..training.fit.DenoiseFitLoop` selects a step).
        to: Target timestep of the DDIM step.
        side: ``'input'``, ``'output'``, or ``'narrow'`` for the one with fewer channels, whose predictor is the
            cheapest; None for the default of the type (Linear input, Conv2d output).
        bias_policy: ``'keep'`` gives layers without bias a predictor without constant, so that the reparameterised
            model has the baseline's structure; ``'add'`` gives them a full predictor and, once reparameterised, a
            bias.
        loss_type: ``'l1+l2'``, ``'l1'`` or ``'l2'``.
        time_embed: Whether predictors have a learned time vector.
        embed_width: Width of the sinusoidal embedding that it is computed from.
        bias_noise: Whether training adds the stochastic term of the reverse step, as the released code does.
        kernel_size: Kernel size of the predictor, in pixels. Only 1 can be reparameterised.

    Returns:
        One row for every layer that the selection names, converted or skipped.

    Raises:
        UserError: If no layer matches, or an option has an unknown value.
        ConversionError: If the model is reparameterised already.
    """
    if is_converted(model):
        return report(model)
    if is_reparameterized(model):
        raise ConversionError(
            'the model is reparameterised already: converting it again would denoise its features twice'
        )
    _check_options(kernel_size, step, to, side, bias_policy, loss_type)
    chosen, skipped = _choose(model, include, exclude, types)
    if bias_policy == 'add':
        check_bias_policy(model, chosen)
    state = DenoiseState([c.name for c in chosen])
    options = dict(
        side=side,
        state=state,
        loss_type=loss_type,
        bias_policy=bias_policy,
        bias_noise=bias_noise,
        time_embed=time_embed,
        embed_width=embed_width,
        steps=steps,
        ddim_to=to,
        step=step,
    )
    _replace(model, chosen, assign_timesteps(state.layer_names, timestep, steps), options)
    state.register_hooks(model)
    return report(model) + [_skipped_row(c) for c in skipped]


def _choose(
    model: nn.Module,
    include: str | Sequence[str],
    exclude: str | Sequence[str],
    types: tuple[type[nn.Module], ...],
) -> tuple[list[Candidate], list[Candidate]]:
    """Return the layers to convert, and those that the selection names but that cannot be converted."""
    check_include(model, include)
    candidates = select_layers(model, include, exclude, types)
    chosen = [c for c in candidates if c.skipped is None]
    skipped = [c for c in candidates if c.skipped is not None]
    if not chosen:
        raise UserError(_no_match(include, exclude, skipped, model))
    for candidate in skipped:
        warnings.warn(f"'{candidate.name}' is not denoised: {candidate.skipped}", stacklevel=3)
    return chosen, skipped


def _replace(model: nn.Module, chosen: list[Candidate], timesteps: dict[str, int], options: dict[str, Any]) -> None:
    """Replace the chosen layers, and their copies in momentum encoders, by denoising layers."""
    momentum_layers = find_momentum_layers(model, chosen)
    layers = [
        _denoise_class(base.layer).from_base_layer(base.layer, timestep=timesteps[source], name=source, **options)
        for base, source in [*((c, c.name) for c in chosen), *momentum_layers]
    ]
    sources = {candidate.name: layer for candidate, layer in zip(chosen, layers, strict=False)}
    for (_, source), layer in zip(momentum_layers, layers[len(chosen) :], strict=True):
        copy_predictor(layer, sources[source])
    predictors = {p: not layer.is_momentum_copy for layer in layers for p in layer.denoiser.parameters()}
    options['state'].predictors = predictors
    bases = [*chosen, *(candidate for candidate, _ in momentum_layers)]
    for base, layer in zip(bases, layers, strict=True):  # only now, so that an error does not change the model
        setattr(base.parent, base.attribute, layer)
    update_averaged_parameters(model)


def _denoise_class(layer: nn.Module) -> type[DenoiseLayer]:
    if isinstance(layer, ReplacedLayer):
        return denoise_replaced(type(layer))
    return DenoiseLinear if isinstance(layer, nn.Linear) else DenoiseConv2d


def _check_options(
    kernel_size: int, step: str, to: int | None, side: str | None, bias_policy: str, loss_type: str
) -> None:
    if kernel_size != 1:
        raise UserError(
            f'a {kernel_size}x{kernel_size} predictor cannot be merged: the composed kernel is larger than that of the '
            'layer; use kernel_size=1'
        )
    if step not in STEPS or (step == 'ddim') != (to is not None):
        raise UserError(
            f"step={step!r} and to={to!r}: use step='ddpm', 'none' or 'selected', or 'ddim' with its target timestep "
            '`to`'
        )
    if side not in (None, 'input', 'output', 'narrow'):
        raise UserError(f"side={side!r}: use 'input', 'output' or 'narrow'")
    if bias_policy not in ('keep', 'add'):
        raise UserError(f"bias_policy={bias_policy!r}: use 'keep' or 'add'")
    if loss_type not in LOSS_TYPES:
        raise UserError(f'loss_type={loss_type!r}: use one of {", ".join(LOSS_TYPES)}')


def _no_match(
    include: str | Sequence[str], exclude: str | Sequence[str], skipped: list[Candidate], model: nn.Module
) -> str:
    layers = [name for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    reason = f'; skipped: {skipped[0].name} ({skipped[0].skipped})' if skipped else ''
    return (
        f'no layer can be converted with include={include!r}, exclude={exclude!r}{reason}; '
        f'the model has {len(layers)} Linear and Conv2d layers, such as {", ".join(layers[:3]) or "none"}'
    )


def _skipped_row(candidate: Candidate) -> ConvertedLayer:
    return ConvertedLayer(candidate.name, type(candidate.layer).__name__, None, None, None, candidate.skipped)

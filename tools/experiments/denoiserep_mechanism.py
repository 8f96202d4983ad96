"""Test whether the denoising step of DenoiseRep removes noise from the inputs of layers, on UCI digits.

In testing only, the input x of the denoised layers of a trained network becomes the state x_S = sqrt(abar_S) x +
sigma_S eps that the method takes it for, or only gets the noise, x + sigma_S eps. The noise predictors are fitted in
closed form to the clean training images. Compared are the published reverse step, the deterministic step down to
timestep 0, and two controls: that step with a predictor of zero, which only rescales, and with random eigenvectors.
"""

import argparse
from pathlib import Path

import torch
from denoiserep_models import accuracy, make_network, moments_over, noise_on_inputs, train
from digit_images import Images, load_images
from parts import Values, run_parts, total_seconds
from records import Metric, Record, Row, environment, save_record
from runner import ROOT, add_run_arguments
from torch import Tensor, nn

from reprefine.engine.cli.tool import run_as_tool
from reprefine.methods.denoiserep import FeatureMoments, convert, denoise_layers, layers_named, set_layer_steps
from reprefine.methods.denoiserep.functional import linear_betas, predict_noise, reverse_step

EXAMPLE = """example:
  python tools/experiments/denoiserep_mechanism.py --jobs 2
"""
DATA = 'UCI digits of scikit-learn: 1,085 training and 355 test images of 8x8 pixels'
NETWORKS = dict(mlp='linear', vit='mlp')  # and the layers that are converted
TIMESTEPS = (100, 500, 999)
STATES = {t: reverse_step(linear_betas(), t) for t in TIMESTEPS}
# Scale and standard deviation of the noise.
LEVELS = {
    'clean': (1.0, 0.0),
    **{f'x_{t}': (step.signal, step.noise) for t, step in STATES.items()},
    **{f'noise_{t}': (1.0, step.noise) for t, step in STATES.items()},
}
STEPS = dict(published=('ddpm', None), deterministic=('ddim', 0))
LABELS = dict(mlp='MLP', vit='ViT', first='first layer', all='all layers')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/denoiserep_mechanism')
    parser.add_argument('--record', type=Path, default=ROOT / 'configs/denoiserep/results/mechanism.json')


def measure(kind: str, seed: int, steps: int | None = None) -> Values:
    """Train a network and return the test accuracy by layers, step and noise level.

    Args:
        kind: ``mlp`` or ``vit``.
        seed: Seed of the network and of the noise.
        steps: Iterations of the training; default 30 epochs.
    """
    images, test = load_images('digits', 'train'), load_images('digits', 'test')
    model = train(make_network(kind, 'digits', seed), images, seed, steps)
    base = make_network(kind, 'digits', seed).eval()
    base.load_state_dict(model.state_dict())
    convert(model.network, NETWORKS[kind], step='selected')
    moments = moments_over(model, images)
    values = {}
    for layers in ('first', 'all'):
        names = layers_named(model.network, layers)

        def tested(of: nn.Module, names: list[str] = names) -> dict[str, float]:
            found = {level: _noisy_accuracy(of, test, names, noise, seed) for level, noise in LEVELS.items()}
            return found | (feature_errors(base, of, names[0], test, seed) if len(names) == 1 else {})

        values[f'{layers}: no noise predictor'] = tested(base)
        set_layer_steps(model.network, moments, {})
        values[f'{layers}: no step'] = tested(model)
        for t in TIMESTEPS:
            for label, (step, to) in STEPS.items():
                set_layer_steps(model.network, moments, dict.fromkeys(names, t), step, to)
                values[f'{layers}: {label}, T={t}'] = tested(model)
            rotate_predictors(model.network, names, moments, seed)
            values[f'{layers}: deterministic, T={t}, random directions'] = tested(model)
            zero_predictors(model.network, names)
            values[f'{layers}: deterministic, T={t}, zero predictor'] = tested(model)
    return values


@torch.no_grad()
def feature_errors(base: nn.Module, model: nn.Module, name: str, test: Images, seed: int) -> dict[str, float]:
    """Return the squared error of a layer's input x, estimated from x_S, over its variance, by state.

    Args:
        base: Network without noise predictors, whose features are the target.
        model: Network whose step is applied; a layer without noise predictor has none.
        name: Name of the layer.
        test: Images.
        seed: Seed of the noise.
    """
    seen: list[Tensor] = []
    handle = base.network.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    accuracy(base, test)
    handle.remove()
    feature, errors = torch.cat(seen), {}
    variance = (feature - feature.flatten(0, -2).mean(0)).square().mean()
    predictor = getattr(model.network.get_submodule(name), 'denoiser', None)
    for timestep, state in STATES.items():
        noise = torch.randn(feature.shape, generator=torch.Generator().manual_seed(seed))
        found = state.signal * feature + state.noise * noise
        if predictor is not None:
            step = predictor.step
            found = step.c_x * found - step.c_e * predict_noise(found, predictor.weight, predictor.constant(), -1)
        errors[f'error_{timestep}'] = ((found - feature).square().mean() / variance).item()
    return errors


def _noisy_accuracy(model: nn.Module, test: Images, names: list[str], noise: tuple[float, float], seed: int) -> float:
    with noise_on_inputs(model.network, names, *noise, seed):
        return accuracy(model, test)


@torch.no_grad()
def rotate_predictors(model: nn.Module, names: list[str], moments: dict[str, FeatureMoments], seed: int) -> None:
    """Give optimal predictors of some layers random eigenvectors; the feature's mean still has no predicted noise."""
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        predictor = denoise_layers(model)[name].denoiser
        rotation = random_rotation(len(predictor.weight), generator)
        rotated = rotation @ predictor.weight.double() @ rotation.T
        predictor.set_predictor(rotated, -predictor.step.signal * rotated @ moments[name].mean.flatten())


def zero_predictors(model: nn.Module, names: list[str]) -> None:
    """Set the predictors of some layers to zero."""
    for name in names:
        predictor = denoise_layers(model)[name].denoiser
        predictor.set_predictor(torch.zeros_like(predictor.weight), torch.zeros_like(predictor.bias))


def random_rotation(width: int, generator: torch.Generator) -> Tensor:
    """Return a uniformly distributed orthogonal matrix ``[width, width]`` in float64."""
    q, r = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def make_rows(parts: dict[str, Values], seeds: list[int]) -> list[Row]:
    """Return the rows of the record; the control of each is the network without noise predictor."""
    rows = []
    for kind in NETWORKS:
        for key in parts[f'{kind}_{seeds[0]}']:
            if key == 'seconds':
                continue
            layers, step = key.split(': ')
            prefix = f'{LABELS[kind]}, {LABELS[layers]}'
            measured = parts[f'{kind}_{seeds[0]}'][key]
            values = {name: [parts[f'{kind}_{seed}'][key][name] for seed in seeds] for name in measured}
            control = None if step == 'no noise predictor' else f'{prefix}: no noise predictor'
            rows.append(Row(f'{prefix}: {step}', values, control))
    return rows


def _label(level: str) -> str:
    kind, _, timestep = level.partition('_')
    if kind == 'clean':
        return 'clean (%)'
    step = STATES[int(timestep)]
    return f'{f"{step.signal:.2f} " if kind == "x" else ""}x + {step.noise:.2f} ε (%)'


def main(args: argparse.Namespace) -> None:
    """Compute all parts and write the record."""
    seeds = list(range(args.seeds))
    parts = {f'{kind}_{seed}': (kind, seed) for kind in NETWORKS for seed in seeds}
    values = run_parts(measure, parts, args.out, args.jobs)
    metrics = {level: Metric(_label(level), 1) for level in LEVELS}
    metrics |= {f'error_{t}': Metric(f'error of x from x_{t}', 3, compare=False) for t in TIMESTEPS}
    record = Record(
        title='Test accuracy with noise on the inputs of the denoised layers, by denoising step',
        kind='mechanism',
        data=DATA,
        seeds=seeds,
        metrics=metrics,
        rows=make_rows(values, seeds),
        minutes=total_seconds(values) / 60,
        threads=1,
        **environment(),
    )
    save_record(args.record, record)
    print(args.record)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

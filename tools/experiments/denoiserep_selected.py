"""Choose the denoising step of DenoiseRep on validation images, for clean and corrupted images and for few labels.

A ViT is trained on clean images. Its feature moments come from one pass over the clean training images; timestep, step
and layers are chosen on validation images of the same corruption as the test images, or with noise of the same strength
in the network, on the inputs of its MLP layers. Controls are the baseline and two ways to shrink the weights of these
layers without any feature, chosen in the same way from as many candidates.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from denoiserep_models import CORRUPTIONS, PixelNet, accuracy, make_network, moments_over, noise_on_inputs, train
from digit_images import Images, load_images
from parts import Values, run_parts, total_seconds
from records import Metric, Record, Row, environment, save_record
from runner import ROOT, add_run_arguments
from torch import Tensor, nn

from reprefine.engine.cli.tool import run_as_tool
from reprefine.methods.denoiserep import (
    FeatureMoments,
    convert,
    denoise_layers,
    layers_named,
    select_step,
    set_layer_steps,
)
from reprefine.methods.denoiserep.conversion.timesteps import assign_timesteps

EXAMPLE = """example:
  python tools/experiments/denoiserep_selected.py --sources digits --jobs 2
"""
DATA = {
    'digits': 'UCI digits (1,085 training, 357 validation, 355 test images)',
    'mnist5k': 'MNIST-5k (3,000 training, 1,000 validation, 1,000 test images)',
}
PER_CLASS = 10  # labelled images of training and of validation with few labels
FEW_STEPS = 1020  # iterations of their training: those of 30 epochs on the digits
# Standard deviation on the inputs of the MLP layers, of clean images.
LAYER_NOISE = {'noise 0.5 in the layers': 0.5, 'noise 1.0 in the layers': 1.0}
CONDITIONS = (*CORRUPTIONS, *LAYER_NOISE)
LAYERS = ('all', 'first')
TIMESTEPS = (100, 300, 500, 999)
STEPS = ('ddpm', 'ddim')
FACTORS = (0.4, 0.6, 0.8, 0.9, 1.1, 1.2, 1.4, 1.6)
RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BASELINE, PUBLISHED, SELECTED = 'baseline', 'closed form, published step', 'closed form, step chosen'
SCALED, SHRUNK = 'weights times a factor, chosen', 'singular values shrunk, chosen'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--sources', nargs='+', choices=DATA, default=['digits'], help='images; default digits')
    add_run_arguments(parser, 'work_dirs/denoiserep_selected')
    parser.add_argument('--record', type=Path, default=ROOT / 'configs/denoiserep/results/selected.json')


def measure(source: str, few: bool, seed: int, steps: int | None = None) -> Values:
    """Train a ViT and return the test accuracy by corruption and method, and what was chosen.

    Args:
        source: ``digits`` or ``mnist5k``.
        few: Whether only :data:`PER_CLASS` labelled images per class are known, for training and for validation; the
            moments need no labels.
        seed: Seed of the network, the corruptions, and the choice of the labelled images.
        steps: Iterations of the training; default 30 epochs.
    """
    images, validation, test = (load_images(source, split) for split in ('train', 'val', 'test'))
    labelled = images.subset(PER_CLASS, seed) if few else images
    validation = validation.subset(PER_CLASS, seed) if few else validation
    base = train(make_network('vit', source, seed), labelled, seed, steps or (FEW_STEPS if few else None))
    model = make_network('vit', source, seed).eval()
    model.load_state_dict(base.state_dict())
    convert(model.network, 'mlp', step='selected')
    moments = moments_over(model, images)
    values = {}
    for name in CONDITIONS:
        corrupt, std = CORRUPTIONS.get(name, CORRUPTIONS['clean']), LAYER_NOISE.get(name, 0.0)
        # other draws of the noise in validation than in testing
        pairs = ((corrupt(images, draw), draw) for images, draw in ((validation, 2 * seed), (test, 2 * seed + 1)))
        values[name] = compare(base, model, moments, *(Measured(*pair, std) for pair in pairs))
    return values


class Measured(NamedTuple):
    """Images, and noise on the inputs of the MLP layers, that a network is evaluated with.

    Attributes:
        images: The images.
        seed: Seed of the noise.
        std: Standard deviation of the noise.
    """

    images: Images
    seed: int
    std: float

    def accuracy(self, model: PixelNet, layers: Sequence[str]) -> float:
        """Return the accuracy in percent of a network; ``layers`` are the names of its MLP layers."""
        with noise_on_inputs(model.network, layers if self.std else (), 1.0, self.std, self.seed):
            return accuracy(model, self.images)


def compare(
    base: PixelNet, model: PixelNet, moments: dict[str, FeatureMoments], validation: Measured, test: Measured
) -> dict[str, tuple[float, str]]:
    """Return test accuracy and choice of every method.

    Args:
        base: The baseline.
        model: The same network, converted with ``step='selected'``.
        moments: Moments of its features.
        validation: What is chosen on.
        test: What is tested on.
    """
    names = list(denoise_layers(model.network))
    found = {BASELINE: (test.accuracy(base, names), '')}
    set_layer_steps(model.network, moments, assign_timesteps(names, 'descending', 1000))
    found[PUBLISHED] = (test.accuracy(model, names), '')
    chosen, *_ = select_step(
        model.network, moments, lambda: validation.accuracy(model, names), TIMESTEPS, STEPS, LAYERS
    )
    found[SELECTED] = (test.accuracy(model, names), str(chosen))
    layers = {selection: layers_named(model.network, selection) for selection in LAYERS}
    for label, strengths, change in ((SCALED, FACTORS, scale_weight), (SHRUNK, RIDGES, shrink_weight)):
        found[label] = choose_change(base, layers, strengths, change, validation, test)
    return found


def scale_weight(weight: Tensor, factor: float) -> Tensor:
    """Return a multiple of a weight matrix."""
    return factor * weight


def shrink_weight(weight: Tensor, ridge: float) -> Tensor:
    """Multiply every singular value s of a weight matrix by s^2 / (s^2 + ridge * mean of s^2)."""
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    return (u * (s**3 / (s**2 + ridge * s.square().mean())) @ v).to(weight)


def choose_change(
    base: PixelNet,
    layers: dict[str, list[str]],
    strengths: tuple[float, ...],
    change: Callable[[Tensor, float], Tensor],
    validation: Measured,
    test: Measured,
) -> tuple[float, str]:
    """Return test accuracy and name of the change of weights that is best in validation; no change wins ties."""
    every = layers['all']
    best, result = validation.accuracy(base, every), (test.accuracy(base, every), 'none')
    for label, names in layers.items():
        for strength in strengths:
            with changed_weights(base.network, names, lambda weight, s=strength: change(weight, s)):
                if (value := validation.accuracy(base, every)) > best:
                    best, result = value, (test.accuracy(base, every), f'{strength}, layers {label}')
    return result


@contextmanager
def changed_weights(model: nn.Module, names: list[str], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Change the weights of some layers while the context is open."""
    layers = [model.get_submodule(name) for name in names]
    own = [layer.weight.data for layer in layers]
    for layer, weight in zip(layers, own, strict=True):
        layer.weight.data = change(weight)
    yield
    for layer, weight in zip(layers, own, strict=True):
        layer.weight.data = weight


def main(args: argparse.Namespace) -> None:
    """Compute all parts and write the record."""
    seeds = list(range(args.seeds))
    settings = [(source, few) for source in args.sources for few in (False, True)]
    parts = {_part(*setting, seed): (*setting, seed) for setting in settings for seed in seeds}
    values = run_parts(measure, parts, args.out, args.jobs)
    record = Record(
        title='Test accuracy with the denoising step chosen on validation images of the same kind',
        kind='end to end',
        data='; '.join(DATA[source] for source in args.sources),
        seeds=seeds,
        metrics={_key(*s): Metric(f'{s[0]}, {"100" if s[1] else "all"} labels (%)', 1) for s in settings},
        rows=make_rows(values, settings, seeds),
        minutes=total_seconds(values) / 60,
        threads=1,
        notes={'chosen': _choices(values, settings, seeds)},
        **environment(),
    )
    save_record(args.record, record)
    print(args.record)


def make_rows(values: dict[str, Values], settings: list[tuple[str, bool]], seeds: list[int]) -> list[Row]:
    """Return the rows of the record; the control of each is the baseline on the same images."""
    rows = []
    for corruption in CONDITIONS:
        for method in (BASELINE, PUBLISHED, SELECTED, SCALED, SHRUNK):
            found = {_key(*s): [values[_part(*s, seed)][corruption][method][0] for seed in seeds] for s in settings}
            control = None if method == BASELINE else f'{corruption}: {BASELINE}'
            rows.append(Row(f'{corruption}: {method}', found, control))
    return rows


def _choices(values: dict[str, Values], settings: list[tuple[str, bool]], seeds: list[int]) -> dict[str, list[str]]:
    return {
        f'{_key(*s)}, {corruption}: {method}': [values[_part(*s, seed)][corruption][method][1] for seed in seeds]
        for s in settings
        for corruption in CONDITIONS
        for method in (SELECTED, SCALED, SHRUNK)
    }


def _key(source: str, few: bool) -> str:
    return f'{source}_few' if few else source


def _part(source: str, few: bool, seed: int) -> str:
    return f'{_key(source, few)}_{seed}'


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

"""Test whether the gates of PD-B choose kernels by the image, on digits that are inverted with probability 1/2.

The image of one polarity is the negative of the other. A linear network can therefore classify only one of them,
however wide it is, unless its kernel depends on the image: PD-B can negate the kernel, while PD-A, and PD-B with gates
that are equal for all images, cannot. A ReLU solves the same task otherwise. Both networks are also trained without
inverted images, where a gate has nothing to choose. The learning rate of each row is chosen on the validation images.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from parts import Values, run_parts, total_seconds
from pddr_digits import DATA, accuracy
from pddr_polarity import (
    BOTH,
    CONSTANT,
    PDB,
    PLAIN,
    SETTINGS,
    Setting,
    gate_difference,
    measure,
    signed_digits,
    size,
    train,
    with_gates_of_inverted,
)
from records import ROOT, Metric, Record, Row, environment, save_record
from runner import add_run_arguments

from reprefine.engine.cli.tool import run_as_tool
from reprefine.visualization.results import paired_difference

EXAMPLE = """example:
  python tools/experiments/pddr_gates.py --jobs 2
"""
POLARITIES = {'random': True, 'fixed': False}
METRICS = {
    'random': Metric('test accuracy, random polarity (%)', 1),
    'fixed': Metric('test accuracy, one polarity (%)', 1),
    'difference': Metric('difference of gates between polarities', 2, compare=False),
}


@dataclass(frozen=True)
class Network:
    """A network and its training.

    Attributes:
        name: Name of its parts, and of its record after ``gates_``.
        title: Title of its record.
        linear: Whether it has no ReLU.
        epochs: Number of epochs.
        rates: Learning rates to choose from.
    """

    name: str
    title: str
    linear: bool
    epochs: int
    rates: tuple[float, ...]


NETWORKS = {
    'linear': Network('linear', 'Gates of PD-B in a linear network', True, 10, (0.01, 0.03)),
    'relu': Network('relu', 'Gates of PD-B in a network with ReLU', False, 20, (0.01, 0.03, 0.1)),
}
SWAPPED = 'PD-B, gates of the inverted image'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/pddr_gates')
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=NETWORKS, help='default: both')
    parser.add_argument('--results', type=Path, default=ROOT / 'configs/pddr/results', help='folder of the records')


def compute(network: Network, setting: Setting, polarity: str, rate: float, seed: int) -> Values:
    """Train one network and measure it on validation and test images."""
    is_random = POLARITIES[polarity]
    net = train(setting, is_random, rate, seed, network.epochs, network.linear)
    values = {split: measure(net, is_random, split) for split in ('val', 'test')}
    if setting.mode == 'B':
        values['difference'] = gate_difference(net)
    if setting == PDB:
        images, labels = signed_digits('test')
        signs = BOTH if is_random else BOTH[:1]
        swapped = [accuracy(lambda x: with_gates_of_inverted(net, x), sign * images, labels) for sign in signs]
        values['swapped'] = mean(swapped)
    return values


def part_name(network: Network, setting: Setting, polarity: str, rate: float, seed: int) -> str:
    """Return the name of a part."""
    return f'{network.name}_{SETTINGS.index(setting)}_{polarity}_rate{rate}_seed{seed}'


def chosen_rate(
    values: dict[str, Values], network: Network, setting: Setting, polarity: str, seeds: Sequence[int]
) -> float:
    """Return the learning rate with the best mean accuracy on the validation images."""

    def score(rate: float) -> float:
        return mean(values[part_name(network, setting, polarity, rate, seed)]['val'] for seed in seeds)

    return max(network.rates, key=score)


def make_rows(
    values: dict[str, Values], network: Network, seeds: Sequence[int]
) -> tuple[list[Row], dict[str, dict[str, float]]]:
    """Return the rows of the record, and the learning rates by row and polarity."""
    rows, rates = [], {}
    for setting in SETTINGS:
        chosen = rates[setting.label] = {p: chosen_rate(values, network, setting, p, seeds) for p in POLARITIES}
        parts = {p: [values[part_name(network, setting, p, rate, s)] for s in seeds] for p, rate in chosen.items()}
        measured = {p: [part['test'] for part in parts[p]] for p in POLARITIES}
        if setting.mode == 'B':
            measured['difference'] = [part['difference'] for part in parts['random']]
        rows.append(Row(setting.label, measured, PLAIN.label if setting != PLAIN else None))
        if setting == PDB:
            swapped = {p: [part['swapped'] for part in parts[p]] for p in POLARITIES}
            rows.append(Row(SWAPPED, swapped, PLAIN.label))
    return rows, rates


def make_record(values: dict[str, Values], network: Network, args: argparse.Namespace) -> Record:
    """Return the record of a network, with learning rates, parameters and the effect of the gates alone as notes."""
    seeds = list(range(args.seeds))
    rows, rates = make_rows(values, network, seeds)
    sizes = {setting.label: size(setting) for setting in SETTINGS}
    by_name = {row.name: row.values for row in rows}
    # PD-B minus PD-B with equal gates.
    effect = {f'gates_{p}': paired_difference(by_name[PDB.label][p], by_name[CONSTANT.label][p], 1) for p in POLARITIES}
    notes = dict(learning_rates=rates, parameters=sizes, **effect)
    shared = dict(kind='mechanism', data=DATA, seeds=seeds, metrics=METRICS, rows=rows, notes=notes, threads=args.jobs)
    return Record(title=network.title, minutes=total_seconds(values) / 60, **shared, **environment())


def main(args: argparse.Namespace) -> None:
    """Train what is missing and write the records."""
    for network in (NETWORKS[name] for name in args.networks):
        settings = ((setting, p, rate) for setting in SETTINGS for p in POLARITIES for rate in network.rates)
        runs = [(network, *setting, seed) for setting in settings for seed in range(args.seeds)]
        values = run_parts(compute, {part_name(*run): run for run in runs}, args.out, args.jobs)
        save_record(args.results / f'gates_{network.name}.json', make_record(values, network, args))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

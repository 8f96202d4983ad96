"""Test whether the gates of PD-B choose kernels by the image, on digits that are inverted with probability 1/2.

A kernel that detects strokes in an image is of little use in the inverted one. PD-B can mix another kernel for it
without more feature maps; PD-A, and PD-B with gates that are equal for all images, cannot. The same networks are
trained without inverted images, where a gate has nothing to choose. The learning rate of each row is chosen on the
validation images.
"""

import argparse
from collections.abc import Sequence
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
RATES = (0.01, 0.03, 0.1)
POLARITIES = {'random': True, 'fixed': False}
METRICS = {
    'random': Metric('test accuracy, random polarity (%)', 1),
    'fixed': Metric('test accuracy, one polarity (%)', 1),
    'difference': Metric('difference of gates between polarities', 2, compare=False),
}
SWAPPED = 'PD-B, gates of the inverted image'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/pddr_gates')
    parser.add_argument('--result', type=Path, default=ROOT / 'configs/pddr/results/gates.json', help='record to write')


def compute(setting: Setting, polarity: str, rate: float, seed: int) -> Values:
    """Train one network and measure it on validation and test images."""
    is_random = POLARITIES[polarity]
    net = train(setting, is_random, rate, seed)
    values = {split: measure(net, is_random, split) for split in ('val', 'test')}
    if setting.mode == 'B':
        values['difference'] = gate_difference(net)
    if setting == PDB:
        images, labels = signed_digits('test')
        signs = BOTH if is_random else BOTH[:1]
        swapped = [accuracy(lambda x: with_gates_of_inverted(net, x), sign * images, labels) for sign in signs]
        values['swapped'] = mean(swapped)
    return values


def part_name(setting: Setting, polarity: str, rate: float, seed: int) -> str:
    """Return the name of a part."""
    return f'{SETTINGS.index(setting)}_{polarity}_rate{rate}_seed{seed}'


def chosen_rate(values: dict[str, Values], setting: Setting, polarity: str, seeds: Sequence[int]) -> float:
    """Return the learning rate with the best mean accuracy on the validation images."""
    return max(RATES, key=lambda rate: mean(values[part_name(setting, polarity, rate, s)]['val'] for s in seeds))


def make_rows(values: dict[str, Values], seeds: Sequence[int]) -> tuple[list[Row], dict[str, dict[str, float]]]:
    """Return the rows of the record, and the learning rates by row and polarity."""
    rows, rates = [], {}
    for setting in SETTINGS:
        rates[setting.label] = {p: chosen_rate(values, setting, p, seeds) for p in POLARITIES}
        chosen = {
            p: [values[part_name(setting, p, rate, s)] for s in seeds] for p, rate in rates[setting.label].items()
        }
        measured = {p: [part['test'] for part in parts] for p, parts in chosen.items()}
        if setting.mode == 'B':
            measured['difference'] = [part['difference'] for part in chosen['random']]
        rows.append(Row(setting.label, measured, PLAIN.label if setting != PLAIN else None))
        if setting == PDB:
            rows.append(Row(SWAPPED, {p: [v['swapped'] for v in parts] for p, parts in chosen.items()}, PLAIN.label))
    return rows, rates


def main(args: argparse.Namespace) -> None:
    """Train what is missing and write the record."""
    seeds = list(range(args.seeds))
    runs = [(setting, p, rate, s) for setting in SETTINGS for p in POLARITIES for rate in RATES for s in seeds]
    values = run_parts(compute, {part_name(*run): run for run in runs}, args.out, args.jobs)
    rows, rates = make_rows(values, seeds)
    sizes = {setting.label: size(setting) for setting in SETTINGS}
    by_name = {row.name: row.values for row in rows}
    # Of the gates alone: PD-B minus PD-B with equal gates.
    effect = {f'gates_{p}': paired_difference(by_name[PDB.label][p], by_name[CONSTANT.label][p], 1) for p in POLARITIES}
    record = Record(
        title='Gates of PD-B on digits of random polarity, one convolution of two channels',
        kind='mechanism',
        data=DATA,
        seeds=seeds,
        metrics=METRICS,
        rows=rows,
        minutes=total_seconds(values) / 60,
        threads=args.jobs,
        notes=dict(learning_rates=rates, parameters=sizes, **effect),
        **environment(),
    )
    save_record(args.result, record)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

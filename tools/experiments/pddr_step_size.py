"""Compare PD-A of linear layers with plain networks of the same start and step size, on MNIST-5k.

The two layers of PD-A get the same gradient. Wherever the step of an optimiser depends only on past gradients, their
sum is a plain layer that starts from the sum of two draws and is trained with twice the learning rate; weight decay is
halved. Writes `mlp_step_size.json`, the authors' fully connected network with their recipe and with a longer one, and
`pda_equivalence.json`, the distance of the two networks for several optimisers.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from parts import Values, run_parts, total_seconds
from pddr_digits import DATA, accuracy
from pddr_mlp import EQUIVALENT, PDA, PLAIN, SETTINGS, Setting, distance, float64_digits, network, train
from records import ROOT, Metric, Record, Row, environment, save_record
from runner import add_run_arguments

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/pddr_step_size.py --jobs 2
"""
RESULTS = ROOT / 'configs/pddr/results'
# Epochs, and epochs after which the rate is multiplied by 0.7: the authors' recipe, and a longer one.
SCHEDULES = {'short': (5, 1), 'long': (50, 10)}
METRICS = {
    'short_accuracy': Metric('test accuracy, 5 epochs (%)'),
    'short_loss': Metric('training loss, 5 epochs', 3, compare=False),
    'short_distance': Metric('distance to PD-A, 5 epochs', 1, compare=False),
    'long_accuracy': Metric('test accuracy, 50 epochs (%)'),
    'long_loss': Metric('training loss, 50 epochs', 6, compare=False),
    'long_distance': Metric('distance to PD-A, 50 epochs', 1, compare=False),
}
EQUIVALENCE_METRICS = {
    'pda': Metric('test accuracy of PD-A (%)', compare=False),
    'plain': Metric('of plain, sum of two draws, twice the rate (%)', compare=False),
    'distance': Metric('distance to PD-A', 1, compare=False),
    'same_rate': Metric('distance to PD-A without twice the rate', 1, compare=False),
}
OPTIMIZERS = {
    'SGD': ('SGD', dict(lr=0.1)),
    'SGD, momentum, weight decay': ('SGD', dict(lr=0.02, momentum=0.9, weight_decay=1e-3)),
    'Adadelta': ('Adadelta', dict(lr=1.0)),
    'Adam': ('Adam', dict(lr=1e-3)),
    'AdamW, weight decay': ('AdamW', dict(lr=1e-3, weight_decay=0.05)),
    'Adam, weight decay added to the gradient': ('Adam', dict(lr=1e-3, weight_decay=1e-3)),
}


def compare_settings(name: str, seed: int) -> Values:
    """Train all settings with one schedule; return test accuracy, training loss and distance to PD-A of each."""
    data, test = float64_digits('train'), float64_digits('test')
    nets = {setting: network(setting, seed) for setting in SETTINGS}
    for setting, net in nets.items():
        train(net, torch.optim.Adadelta(net.parameters(), lr=setting.rate), data, seed, SCHEDULES[name])
    values = {}
    for setting, net in nets.items():
        with torch.no_grad():
            loss = F.cross_entropy(net(data[0])[0], data[1]).item()
        measured = {f'{name}_accuracy': accuracy(net, *test), f'{name}_loss': loss}
        if setting.mode is None:
            measured[f'{name}_distance'] = distance(net, nets[PDA])
        values[setting.label] = measured
    return values


def compare_optimizers(seed: int, epochs: int = 5) -> Values:
    """Train PD-A and its equivalent with each optimiser at a constant rate; return accuracies and distances."""
    data, test = float64_digits('train'), float64_digits('test')
    same_rate = Setting('', None, EQUIVALENT.draws, 1.0)
    values = {}
    for label, (name, options) in OPTIMIZERS.items():
        nets = {setting: network(setting, seed) for setting in (PDA, EQUIVALENT, same_rate)}
        for setting, net in nets.items():
            optimizer = getattr(torch.optim, name)(net.parameters(), **scaled(options, setting.rate))
            train(net, optimizer, data, seed, (epochs, epochs))
        values[label] = dict(
            pda=accuracy(nets[PDA], *test),
            plain=accuracy(nets[EQUIVALENT], *test),
            distance=distance(nets[EQUIVALENT], nets[PDA]),
            same_rate=distance(nets[same_rate], nets[PDA]),
        )
    return values


def scaled(options: dict[str, Any], rate: float) -> dict[str, Any]:
    """Return optimiser options with ``rate`` times the learning rate and the same product of rate and weight decay."""
    decay = {key: options[key] / rate for key in ('weight_decay',) if key in options}
    return options | dict(lr=options['lr'] * rate) | decay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/pddr_step_size')
    parser.add_argument('--results', type=Path, default=RESULTS, help='folder of the records')


def compute(task: str, seed: int) -> Values:
    """Compute one part: the settings with one schedule, or the optimisers."""
    return compare_optimizers(seed) if task == 'optimizers' else compare_settings(task, seed)


def make_rows(parts: list[list[Values]], control: str | None) -> list[Row]:
    """Return the rows of a record.

    Args:
        parts: For each task, the values of each seed by row and metric.
        control: Name of the row that all others are compared with.
    """
    rows = []
    for name in (name for name in parts[0][0] if name != 'seconds'):
        metrics = [(task, metric) for task in parts for metric in task[0][name]]
        values = {metric: [seed[name][metric] for seed in task] for task, metric in metrics}
        rows.append(Row(name, values, control if name != control else None))
    return rows


def main(args: argparse.Namespace) -> None:
    """Compute what is missing and write the records."""
    seeds, tasks = list(range(args.seeds)), ('optimizers', 'short', 'long')
    values = run_parts(compute, {f'{t}_seed{s}': (t, s) for t in tasks for s in seeds}, args.out, args.jobs)
    by_task = {task: [values[f'{task}_seed{seed}'] for seed in seeds] for task in tasks}
    minutes = {task: total_seconds({str(n): part for n, part in enumerate(by_task[task])}) / 60 for task in tasks}
    shared = dict(kind='mechanism', data=DATA, seeds=seeds, threads=args.jobs, **environment())
    save_record(
        args.results / 'mlp_step_size.json',
        Record(
            title='PD-A of linear layers against plain networks with its start and step size',
            metrics=METRICS,
            rows=make_rows([by_task['short'], by_task['long']], PLAIN.label),
            minutes=minutes['short'] + minutes['long'],
            **shared,
        ),
    )
    save_record(
        args.results / 'pda_equivalence.json',
        Record(
            title='Distance of PD-A from the plain network with its start and step size, by optimiser',
            metrics=EQUIVALENCE_METRICS,
            rows=make_rows([by_task['optimizers']], None),
            minutes=minutes['optimizers'],
            **shared,
        ),
    )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

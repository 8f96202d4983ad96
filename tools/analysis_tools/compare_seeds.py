"""Train and test configs with several seeds and compare them with a control: means, deviations, paired differences.

The checkpoint of the last epoch or iteration is tested. Finished jobs of an earlier call are not repeated.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from reprefine.engine.cli.jobs import Job, run_jobs
from reprefine.engine.cli.launch import add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/compare_seeds.py configs/pddr/classification/mlp-pd{a,b}_5e_mnist5k.py \\
      --control configs/baselines/classification/mlp_5e_mnist5k.py --seeds 5
"""
TOOLS = Path(__file__).resolve().parents[1]
HEADER = ('config', 'parameters in training', '{metric}', 'minus control', 'training time / control')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument('--control', required=True, metavar='CONFIG', help='config of the control')
    parser.add_argument('--seeds', type=int, default=5, metavar='N', help='train with the seeds 0 to N - 1')
    parser.add_argument('--metric', default='accuracy/top1', help="name in the test's result")
    parser.add_argument('--jobs', type=int, default=1, help='processes at a time, one thread each')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/compare_seeds'), help='output folder')
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Train and test all configs and write ``table.md`` into the output folder.

    Raises:
        UserError: If two configs have the same name, a job fails, or the metric is unknown.
    """
    paths = [args.control, *args.configs]
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names) or args.seeds < 1:
        raise UserError('give configs with different file names, and a positive number as --seeds')
    configs = {path: load_config(path, args.cfg_options, args.data_root) for path in paths}
    jobs = [
        job for path, cfg in configs.items() for seed in range(args.seeds) for job in make_jobs(path, cfg, seed, args)
    ]
    scopes = sorted({cfg.get('default_scope') for cfg in configs.values()} - {None})
    preload = [f'{scope}.{part}' for scope in scopes for part in ('models', 'datasets', 'evaluation')]
    try:
        run_jobs(jobs, args.jobs, [*preload, 'reprefine.engine.cli.train', 'reprefine.engine.cli.test'])
    except KeyboardInterrupt:
        raise UserError(f'interrupted: resume with {shlex.join([sys.executable, *sys.argv])}') from None
    table = make_table(configs, args)
    (args.out / 'table.md').write_text(table + '\n')
    print(table)


def make_jobs(path: str, cfg: Config, seed: int, args: argparse.Namespace) -> list[Job]:
    """Return the jobs that train and test one config with one seed."""
    folder = work_dir_of(path, seed, args.out)
    by_iteration = cfg.train_cfg.get('max_iters')
    checkpoint = folder / (f'iter_{by_iteration}.pth' if by_iteration else f'epoch_{cfg.train_cfg.max_epochs}.pth')
    metrics, name = folder / 'test.json', f'{Path(path).stem}, seed {seed}'
    root = ['--data-root', args.data_root] if args.data_root else []
    options = ['--cfg-options', f'randomness.seed={seed}', *(f'{k}={v}' for k, v in (args.cfg_options or {}).items())]
    train = [TOOLS / 'train.py', path, '--work-dir', folder, '--resume', *root, *options]
    test = [TOOLS / 'test.py', path, checkpoint, '--work-dir', folder / 'test', '--out', metrics, *root, *options]
    return [
        Job(f'train {name}', list(map(str, train)), folder / 'train.log', product=checkpoint),
        Job(f'test {name}', list(map(str, test)), folder / 'test.log', (f'train {name}',), metrics),
    ]


def work_dir_of(path: str, seed: int, out: Path) -> Path:
    """Return the work dir of one run."""
    return out / f'{Path(path).stem}_seed{seed}'


def make_table(configs: dict[str, Config], args: argparse.Namespace) -> str:
    """Return the Markdown table, the control first."""
    from reprefine.visualization.results import markdown_table, mean_std, paired_difference

    folders = {path: [work_dir_of(path, seed, args.out) for seed in range(args.seeds)] for path in configs}
    scores = {path: [_score(folder, args.metric) for folder in of] for path, of in folders.items()}
    rows = []
    for path, cfg in configs.items():
        is_control = path == args.control
        rows.append(
            (
                f'`{Path(path).stem}`',
                f'{_parameters(cfg):,}',
                mean_std(scores[path]),
                '-' if is_control else paired_difference(scores[path], scores[args.control]),
                '1' if is_control else mean_std(_time_ratios(folders[path], folders[args.control])),
            )
        )
    return markdown_table([name.format(metric=args.metric) for name in HEADER], rows)


def _score(folder: Path, metric: str) -> float:
    metrics = json.loads((folder / 'test.json').read_text())
    if metric not in metrics:
        raise UserError(f'--metric {metric}: the test measures {", ".join(metrics)}')
    return metrics[metric]


def _parameters(cfg: Config) -> int:
    from reprefine.engine.build import build_model
    from reprefine.engine.cost.counting import count_parameters

    return count_parameters(build_model(cfg))


def _time_ratios(folders: Sequence[Path], controls: Sequence[Path]) -> list[float]:
    from reprefine.visualization.results import read_scalars, seconds_of_training

    seconds = [[seconds_of_training(read_scalars(folder)) for folder in of] for of in (folders, controls)]
    return [a / b for a, b in zip(*seconds, strict=True)]


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

"""Train one baseline of every benchmark on its toy data, test it, and set the result beside chance.

The configs are the real ones; options shorten the schedule and shrink images and batches. The numbers show that data,
loader, model, loss and metric of a benchmark fit together; they say nothing about the real dataset.
"""

import argparse
import shlex
import sys
from pathlib import Path

from recipe import ROOT, Recipe
from recipes import RECIPES

from reprefine.engine.cli.jobs import Job, run_jobs
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.toy_data import make_toy_data

EXAMPLE = """example:
  python tools/toy_baselines/run.py --only cifar10 coco-retinanet"""
# What every step imports; the processes share it.
PRELOAD = (
    'mmpretrain.datasets',
    'mmpretrain.evaluation',
    'mmdet.datasets',
    'mmdet.evaluation',
    'mmseg.datasets',
    'mmseg.evaluation',
    'mmpose.datasets',
    'mmpose.evaluation',
    'reprefine.engine.cli.train',
    'reprefine.engine.cli.test',
    'reprefine.tasks',
    'reprefine.models',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--only', nargs='+', choices=RECIPES, default=list(RECIPES), metavar='NAME', help='which runs')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/toy', help='folder of the toy data, made if missing')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/toy_baselines', help='output folder')
    parser.add_argument('--jobs', type=int, default=2, help='processes at a time')


def jobs_of(name: str, recipe: Recipe, data: Path, out: Path) -> list[Job]:
    """Return preparation, training and test of one recipe."""
    folder, root = out / name, data / recipe.data_root
    checkpoint, metrics = folder / recipe.checkpoint, folder / 'metrics.json'
    common = [recipe.config_file, '--data-root', root]
    train_options = ['--cfg-options', *recipe.both, *recipe.train]
    prepare = [ROOT / 'tools' / recipe.preparation[0], root, *recipe.preparation[1:]] if recipe.preparation else None
    train = [ROOT / 'tools/train.py', *common, '--work-dir', folder, '--resume', *train_options]
    options = ['--cfg-options', 'test_dataloader.num_workers=0', *recipe.both]
    test = [ROOT / 'tools/test.py', *common, checkpoint, '--work-dir', folder / 'test', '--out', metrics, *options]
    jobs = [Job(f'prepare {name}', _words(prepare), folder / 'prepare.log')] if prepare else []
    after = tuple(job.name for job in jobs)
    jobs.append(Job(f'train {name}', _words(train), folder / 'train.log', after, checkpoint))
    if recipe.metric != 'loss':
        jobs.append(Job(f'test {name}', _words(test), folder / 'test.log', (f'train {name}',), metrics))
    return jobs


def _words(command: list[object]) -> list[str]:
    return list(map(str, command))


def main(args: argparse.Namespace) -> None:
    """Run the chosen recipes and write ``table.md``; finished steps of an earlier call are kept.

    Raises:
        UserError: If a step fails or is interrupted.
    """
    recipes = {name: RECIPES[name] for name in args.only}
    make_toy_data(args.data, only=sorted({recipe.toy_set for recipe in recipes.values()}))
    jobs = [job for name, recipe in recipes.items() for job in jobs_of(name, recipe, args.data, args.out)]
    print(f'{len(jobs)} steps, {args.jobs} at a time; logs and results in {args.out}')
    try:
        run_jobs(jobs, args.jobs, PRELOAD)
    except KeyboardInterrupt:
        raise UserError(f'interrupted: go on with {shlex.join([sys.executable, *sys.argv])}') from None
    from report import write_table  # its imports take seconds, which the jobs need not wait for

    print(write_table(recipes, args.data, args.out))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

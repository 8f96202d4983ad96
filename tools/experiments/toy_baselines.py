"""Train one baseline of every benchmark on toy data, test it, and compare the result with chance level.

The configs are those of the benchmarks; options shorten the schedules and reduce images, batches and networks. The
numbers show that data, loader, model, loss and metric of a benchmark work together; they are not results of the
benchmark.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from runner import ROOT, run, save_report, test_job, tool_job, train_job
from toy_recipes import classification, dense
from toy_recipes.recipe import Recipe

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/toy_baselines.py --only cifar10 coco"""
RECIPES = classification.RECIPES | dense.RECIPES
HEADER = ('data', 'config', 'iterations', 'measure', 'result', 'chance', 'minutes of training')
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
    parser.add_argument('--only', nargs='+', choices=RECIPES, default=list(RECIPES), metavar='NAME', help='recipes')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/toy', help='folder of the toy data')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/toy_baselines', help='output folder')
    parser.add_argument('--jobs', type=int, default=2, help='processes at a time')


def data_job(recipes: dict[str, Recipe], data: Path, out: Path) -> Job:
    """Return the job that writes the toy data which do not exist."""
    names = sorted({recipe.toy_set for recipe in recipes.values()})
    return tool_job(
        'toy data', 'dataset_tools/make_toy_data.py', ['--out', data, '--only', *names], out / 'toy_data.log'
    )


def make_jobs(name: str, recipe: Recipe, data: Path, out: Path) -> list[Job]:
    """Return preparation, training and test of one recipe."""
    work_dir, root = out / name, data / recipe.data_root
    jobs, after = [], ('toy data',)
    if recipe.preparation:
        tool, *arguments = recipe.preparation
        jobs.append(tool_job(f'prepare {name}', tool, [root, *arguments], work_dir / 'prepare.log', after))
        after = (jobs[0].name,)
    options, data_root = [*recipe.both, *recipe.train], ['--data-root', root]
    train = train_job(f'train {name}', recipe.config_file, work_dir, recipe.checkpoint, options, data_root, after=after)
    jobs.append(train)
    if recipe.metric != 'loss':
        options, metrics = ['test_dataloader.num_workers=0', *recipe.both], work_dir / 'metrics.json'
        jobs.append(
            test_job(
                f'test {name}', recipe.config_file, train.product, metrics, options, data_root, after=(train.name,)
            )
        )
    return jobs


def main(args: argparse.Namespace) -> None:
    """Run the chosen recipes and write ``table.md``; finished jobs of an earlier call are not repeated.

    Raises:
        UserError: If a job fails or is interrupted.
    """
    recipes = {name: RECIPES[name] for name in args.only}
    jobs = [data_job(recipes, args.data, args.out)]
    jobs += [job for name, recipe in recipes.items() for job in make_jobs(name, recipe, args.data, args.out)]
    run(jobs, args, PRELOAD)
    save_report(make_table(recipes, args.data, args.out), args.out / 'table.md')


def make_table(recipes: dict[str, Recipe], data: Path, out: Path) -> str:
    """Return the Markdown table with one row per recipe, and the machine."""
    from reprefine.visualization.results import markdown_table

    rows = [_row(recipe, data, out / name) for name, recipe in recipes.items()]
    return f'{markdown_table(HEADER, rows)}\n\nMachine: {platform.machine()}, one thread per run, no GPU.'


def _row(recipe: Recipe, data: Path, work_dir: Path) -> tuple[str, ...]:
    from toy_recipes.chance import CHANCE

    from reprefine.visualization.results import read_scalars, seconds_of_training

    records = [record for record in read_scalars(work_dir) if 'loss' in record]
    result, chance = _result(recipe, records, work_dir), CHANCE[recipe.chance](_load_test_config(recipe, data))
    is_better = result < chance if recipe.lower_is_better else result > chance
    return (
        recipe.data_root,
        f'`{recipe.config}`',
        str(records[-1]['step']),
        recipe.measure,
        f'{result:.3g}{"" if is_better else " (not better than chance)"}',
        f'{chance:.3g}',
        f'{seconds_of_training(records) / 60:.1f}',
    )


def _load_test_config(recipe: Recipe, data: Path) -> Any:
    from reprefine.engine.cli.launch import add_config_arguments, load_config

    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    options = ['--cfg-options', *recipe.both] if recipe.both else []
    args = parser.parse_args(['--data-root', str(data / recipe.data_root), *options])
    return load_config(str(recipe.config_file), args.cfg_options, args.data_root)


def _result(recipe: Recipe, records: list[dict], work_dir: Path) -> float:
    if recipe.metric == 'loss':
        return records[-1]['loss']
    return json.loads((work_dir / 'metrics.json').read_text())[recipe.metric] * recipe.factor


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

"""Train a baseline, refine it with DenoiseRep, and report what that changed, with a control run beside it.

Everything runs on real images that come with a Python package: UCI digits, or MNIST-5k. Each seed trains the
baseline; from its last checkpoint start DenoiseRep and the control, which trains as many epochs without a denoiser.
The folded checkpoint is then tested with the baseline's own config.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from variants import BASELINE, CONTROL, DATASETS, DENOISEREP, EXTRA, ROOT, Variant

from reprefine.engine.cli.jobs import Job, run_jobs
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/demo/run.py --dataset mnist5k --seeds 5 --out work_dirs/demo_mnist5k
"""
MARKER = '.reprefine-demo'
# What every step imports; the processes of the demo share it.
PRELOAD = (
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.evaluation',
    'mmpretrain.engine',
    'mmpretrain.visualization',
    'reprefine.engine.cli.train',
    'reprefine.engine.cli.test',
    'reprefine.methods',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--dataset', choices=DATASETS, default='digits')
    parser.add_argument('--seeds', type=int, default=3, help='number of repetitions')
    parser.add_argument(
        '--also', nargs='*', choices=EXTRA, default=['closedform'], help='label-free forms to train too'
    )
    parser.add_argument('--jobs', type=int, default=2, help='processes at a time')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/demo', help='output folder')
    parser.add_argument('--resume', action='store_true', help='go on with an interrupted demo')


def jobs_of(variant: Variant, seed: int, out: Path, dataset: str) -> list[Job]:
    """Return the training and the test of one variant and seed."""
    folder, tested = variant.folder(out, seed), variant.tested_checkpoint(out, seed)
    is_baseline = variant is BASELINE
    options = [f'randomness.seed={seed}', *variant.options]
    options += [] if is_baseline else [f'load_from={BASELINE.checkpoint(out, seed)}']
    train = [ROOT / 'tools/train.py', variant.config_file(dataset), '--work-dir', folder, '--resume']
    test = [ROOT / 'tools/test.py', BASELINE.config_file(dataset), tested, '--work-dir', folder / 'test']
    train_name, baseline_name = f'train {variant.name}, seed {seed}', f'train {BASELINE.name}, seed {seed}'
    metrics = folder / 'test.json'
    return [
        Job(
            train_name,
            _words(*train, '--cfg-options', *options),
            folder / 'train.log',
            after=() if is_baseline else (baseline_name,),
            product=tested,
        ),
        Job(
            f'test {variant.name}, seed {seed}',
            _words(*test, '--out', metrics),
            folder / 'test.log',
            after=(train_name,),
            product=metrics,
        ),
    ]


def cost_job(out: Path, dataset: str, after: tuple[str, ...]) -> Job:
    """Return the measurement of the folded model against the baseline, which runs when nothing else does."""
    tool, product = ROOT / 'tools/analysis_tools/compare_cost.py', out / 'cost.json'
    configs = [DENOISEREP.config_file(dataset), '--baseline', BASELINE.config_file(dataset)]
    command = _words(tool, *configs, '--deploy', '--only', 'train', 'inference', 'flops', '--out', product)
    return Job('compare cost', command, out / 'cost.log', after, product)


def _words(*words: object) -> list[str]:
    return list(map(str, words))


def main(args: argparse.Namespace) -> None:
    """Run all jobs and write the report.

    Raises:
        UserError: If the output folder is somebody else's, or a step fails.
    """
    prepare(args.out, args.resume)
    seeds = list(range(args.seeds))
    variants = [BASELINE, CONTROL, DENOISEREP, *(EXTRA[name] for name in args.also)]
    jobs = [job for variant in variants for seed in seeds for job in jobs_of(variant, seed, args.out, args.dataset)]
    jobs.append(cost_job(args.out, args.dataset, after=tuple(job.name for job in jobs)))
    run_all(jobs, args.jobs, args.out)
    from report import write_report  # its imports take seconds, which the jobs need not wait for

    print(write_report(args.out, args.dataset, variants, seeds))


def run_all(jobs: list[Job], processes: int, out: Path) -> None:
    """Run the jobs, so many at a time.

    Raises:
        UserError: If a job fails, or the user interrupts; it tells how to go on.
    """
    print(f'{len(jobs)} steps, {processes} at a time; logs and results in {out}')
    try:
        run_jobs(jobs, processes, PRELOAD)
    except KeyboardInterrupt:
        argv = [word for word in sys.argv if word != '--resume']
        raise UserError(f'interrupted: go on with {shlex.join([sys.executable, *argv])} --resume') from None


def prepare(out: Path, resume: bool) -> None:
    """Make the output folder, empty unless an interrupted demo is resumed; only a demo's own folder is emptied."""
    if out.exists() and not resume:
        if any(out.iterdir()) and not (out / MARKER).is_file():
            raise UserError(f'{out} is not the folder of a demo: give another one with --out')
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

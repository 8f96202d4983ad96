"""Train a baseline, refine it with DenoiseRep, and compare the result with a control of equal budget.

The images are shipped with Python packages: UCI digits, or MNIST-5k. For each seed the baseline is trained; DenoiseRep
and its controls start from its last checkpoint. One control trains the same number of epochs without DenoiseRep, the
other in the same phases without reverse step, so that its backbone is trained as long as that of DenoiseRep. The
reparameterised checkpoint is tested with the config of the baseline.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from denoiserep_variants import BASELINE, CONTROL, DATASETS, DENOISEREP, EXTRA, NO_STEP, Variant
from runner import add_run_arguments, prepare_folder, run, test_job, tool_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/experiments/denoiserep.py --dataset mnist5k --seeds 5 --also no_step closedform selected \
      --out work_dirs/denoiserep_mnist5k --record configs/denoiserep/results/mnist5k.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--dataset', choices=DATASETS, default='digits')
    parser.add_argument('--also', nargs='*', choices=EXTRA, default=['closedform'], help='other variants to train')
    add_run_arguments(parser, 'work_dirs/demo', seeds=3)
    parser.add_argument('--record', type=Path, help='record to write, with --also no_step')
    parser.add_argument('--resume', action='store_true', help='continue an interrupted experiment')


def make_jobs(variant: Variant, seed: int, out: Path, dataset: str) -> list[Job]:
    """Return the training and the test of one variant and seed."""
    work_dir, tested = variant.work_dir(out, seed), variant.tested_checkpoint(out, seed)
    names = [f'{step} {variant.name}, seed {seed}' for step in ('train', 'test')]
    options, after = [f'randomness.seed={seed}', *variant.options], ()
    if variant is not BASELINE:
        options.append(f'load_from={BASELINE.checkpoint(out, seed)}')
        after = (f'train {BASELINE.name}, seed {seed}',)
    train = train_job(names[0], variant.config_file(dataset), work_dir, tested.name, options, after=after)
    metrics = work_dir / 'test.json'
    return [train, test_job(names[1], BASELINE.config_file(dataset), tested, metrics, after=names[:1])]


def cost_job(out: Path, dataset: str, after: Sequence[str]) -> Job:
    """Return the cost comparison of the deployed model and the baseline, which runs after all other jobs."""
    configs = [DENOISEREP.config_file(dataset), '--baseline', BASELINE.config_file(dataset)]
    arguments = [*configs, '--deploy', '--only', 'train', 'inference', 'flops', '--out', out / 'cost.json']
    return tool_job(
        'compare cost', 'analysis_tools/compare_cost.py', arguments, out / 'cost.log', after, out / 'cost.json'
    )


def main(args: argparse.Namespace) -> None:
    """Run all jobs and write the report.

    Raises:
        UserError: If the output folder has other content, a job fails, or a record lacks its control.
    """
    if args.record and NO_STEP.name not in args.also:
        raise UserError(f'--record compares with {NO_STEP.label}: add {NO_STEP.name} to --also')
    prepare_folder(args.out, args.resume)
    seeds = list(range(args.seeds))
    variants = [BASELINE, CONTROL, DENOISEREP, *(EXTRA[name] for name in args.also)]
    jobs = [job for variant in variants for seed in seeds for job in make_jobs(variant, seed, args.out, args.dataset)]
    jobs.append(cost_job(args.out, args.dataset, after=[job.name for job in jobs]))
    run(jobs, args, resume=('--resume',))
    from reports.denoiserep import write_report  # after the jobs, because its imports take seconds

    print(write_report(args.out, args.dataset, variants, seeds))
    if args.record:
        from reports.denoiserep import write_record

        write_record(args.record, args.out, args.dataset, variants, seeds)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

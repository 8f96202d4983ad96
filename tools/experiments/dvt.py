"""Denoise the features of small ViTs on scenes with digits, and evaluate them with and without the denoiser.

ViTs are pre-trained as masked auto-encoders. Images are denoised one by one in closed form, and denoisers are trained
on the results and, as a control, on raw features, for as many iterations as lower the loss on other scenes. All are
evaluated by linear segmentation. The same is done with a known position pattern in the features.
"""

import argparse

from dvt_parts.jobs import ITERATIONS, Repetition, choice_jobs, make_jobs
from runner import add_run_arguments, run

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/experiments/dvt.py --vits 3 --seeds 3 --vit-iterations 1500

Run it again to continue an interrupted call, or with more seeds to add some. Run R of all has ViT R % VITS; views,
denoiser and probe have the seed R.
"""
PRELOAD = (
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.engine',
    'mmpretrain.visualization',
    'mmseg.models',
    'mmseg.datasets',
    'mmseg.evaluation',
    'mmseg.visualization',
    'reprefine.engine.cli.train',
    'reprefine.engine.cli.test',
    'reprefine.methods',
    'reprefine.tasks',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/dvt_demo', seeds=3)
    parser.add_argument('--vits', type=int, default=3, help='number of ViTs (default: 3); --seeds are for each of them')
    parser.add_argument('--vit-iterations', type=int, default=4000, help='iterations of pre-training (default: 4000)')


def main(args: argparse.Namespace) -> None:
    """Run the jobs that are not finished, and write the record.

    Raises:
        UserError: If a number is not positive, or a job fails.
    """
    if min(args.seeds, args.vits, args.vit_iterations) < 1:
        raise UserError(f'--seeds {args.seeds} --vits {args.vits}: give at least 1')
    out = args.out.resolve()
    repetitions = [Repetition(number, number % args.vits, out) for number in range(args.seeds * args.vits)]
    run(choice_jobs(repetitions[0], args.vit_iterations), args, PRELOAD)
    from reports.dvt import choose_iterations, write_record  # after the jobs, because its imports take seconds

    losses, iterations = choose_iterations(repetitions[0].folder, ITERATIONS)
    run(make_jobs(repetitions, args.vit_iterations, iterations), args, PRELOAD)
    print(write_record(out, len(repetitions), args.vits, dict(iterations=iterations, losses=losses)))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

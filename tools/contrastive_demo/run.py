"""Pre-train MoCo and MoCo with feature transformation on MNIST-5k, and compare their features.

Every seed trains both with the same budget. An encoder is judged on the test images by nearest neighbours and by a
linear classifier on its frozen features; one that was never trained stands beside them.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from reprefine.engine.cli.jobs import Job, add_jobs_arguments, run_jobs
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/contrastive_demo/run.py --seeds 5 --out work_dirs/contrastive_demo
"""
ROOT = Path(__file__).resolve().parents[2]
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
LINEAR = 'baselines/classification/resnet14-narrow_linear-30e_mnist5k'


class Variant(NamedTuple):
    """One row of the table.

    Attributes:
        name: Name of its folders.
        label: Name in the table.
        config: Path below ``configs``, without suffix.
        epochs: Number of epochs, which names the last checkpoint.
        options: Changes of the config.
    """

    name: str
    label: str
    config: str
    epochs: int = 12
    options: tuple[str, ...] = ()


MOCO = Variant('moco', 'MoCo v2', 'baselines/selfsup/moco-v2_resnet14-narrow_12e_mnist5k')
FT = Variant('moco-ft', 'MoCo v2 + FT', 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k')
# An epoch at a rate of zero leaves the weights as they were drawn and gives the norms their statistics.
STILL = ('train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0', 'param_scheduler.0.eta_min=0.0')
UNTRAINED = Variant(
    'untrained', 'untrained encoder', MOCO.config, 1, (*STILL, 'optim_wrapper.optimizer.weight_decay=0')
)
VARIANTS = (MOCO, FT, UNTRAINED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_jobs_arguments(parser, ROOT / 'work_dirs/contrastive_demo')


def jobs_of(variant: Variant, seed: int, out: Path) -> list[Job]:
    """Return the pre-training of one variant and seed, and the training and test of its linear classifier."""
    folder = out / f'{variant.name}_seed{seed}'
    encoder, linear = folder / f'epoch_{variant.epochs}.pth', folder / 'linear'
    classifier, metrics = linear / 'epoch_30.pth', linear / 'test.json'
    options = [f'randomness.seed={seed}', *variant.options, 'custom_hooks.2.query.dataset.split=test']
    train, test = ROOT / 'tools/train.py', ROOT / 'tools/test.py'
    config, probe = (ROOT / 'configs' / f'{name}.py' for name in (variant.config, LINEAR))
    start = [f'randomness.seed={seed}', f'model.backbone.init_cfg.checkpoint={encoder}']
    names = [f'{step} {variant.name}, seed {seed}' for step in ('pre-train', 'probe', 'test')]
    steps = (
        ([train, config, '--work-dir', folder, '--resume', '--cfg-options', *options], encoder),
        ([train, probe, '--work-dir', linear, '--cfg-options', *start], classifier),
        ([test, probe, classifier, '--work-dir', linear / 'test', '--out', metrics, '--cfg-options', *start], metrics),
    )
    return [
        Job(name, list(map(str, command)), folder / f'{name.split()[0]}.log', after, product)
        for name, (command, product), after in zip(names, steps, [(), *((name,) for name in names)], strict=False)
    ]


def main(args: argparse.Namespace) -> None:
    """Run what is not done yet and print the table.

    Raises:
        UserError: If a step fails.
    """
    jobs = [job for seed in range(args.seeds) for variant in VARIANTS for job in jobs_of(variant, seed, args.out)]
    print(f'{len(jobs)} steps, {args.jobs} at a time; logs and results in {args.out}')
    run_jobs(jobs, args.jobs, PRELOAD)
    from reprefine.visualization.run_comparison import comparison_table, read_result

    groups = {
        variant.label: [read_result(args.out / f'{variant.name}_seed{seed}') for seed in range(args.seeds)]
        for variant in VARIANTS
    }
    table = comparison_table(groups, ['knn_top1', 'accuracy/top1'])
    (args.out / 'table.md').write_text(f'{table}\n')
    print(table)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

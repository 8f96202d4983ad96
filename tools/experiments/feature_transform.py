"""Pre-train MoCo with and without feature transformation on MNIST-5k, and compare their features.

For each seed both are trained with the same budget. An encoder is evaluated on the test images by nearest neighbours
and by a linear classifier on its frozen features, like an untrained encoder.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from runner import add_run_arguments, config_file, run, save_report, test_job, train_job

from reprefine.engine.cli.jobs import Job
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/feature_transform.py --seeds 5 --out work_dirs/contrastive_demo
"""
LINEAR = 'baselines/classification/resnet14-narrow_linear-30e_mnist5k'


class Variant(NamedTuple):
    """One row of the table.

    Attributes:
        name: Name of its work dirs.
        label: Name in the table.
        config: Path below ``configs``, without suffix.
        epochs: Number of epochs, which is part of the name of the last checkpoint.
        options: Values of ``--cfg-options`` in pre-training.
    """

    name: str
    label: str
    config: str
    epochs: int = 12
    options: tuple[str, ...] = ()

    def work_dir(self, out: Path, seed: int) -> Path:
        """Return the work dir of one run."""
        return out / f'{self.name}_seed{seed}'


MOCO = Variant('moco', 'MoCo v2', 'baselines/selfsup/moco-v2_resnet14-narrow_12e_mnist5k')
FT = Variant('moco-ft', 'MoCo v2 + FT', 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k')
# One epoch with learning rate 0: random weights, and running statistics of the batch norms.
NO_TRAINING = (
    'train_cfg.max_epochs=1',
    'optim_wrapper.optimizer.lr=0.0',
    'param_scheduler.0.eta_min=0.0',
    'optim_wrapper.optimizer.weight_decay=0',
)
UNTRAINED = Variant('untrained', 'untrained encoder', MOCO.config, 1, NO_TRAINING)
VARIANTS = (MOCO, FT, UNTRAINED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/contrastive_demo')


def make_jobs(variant: Variant, seed: int, out: Path) -> list[Job]:
    """Return the pre-training of one variant and seed, and the training and test of its linear classifier."""
    folder = variant.work_dir(out, seed)
    linear, probe = folder / 'linear', config_file(LINEAR)
    names = [f'{step} {variant.name}, seed {seed}' for step in ('pre-train', 'probe', 'test')]
    logs = [folder / f'{step}.log' for step in ('pre-train', 'probe', 'test')]
    options = [f'randomness.seed={seed}', *variant.options, 'custom_hooks.1.query.dataset.split=test']
    checkpoint = f'epoch_{variant.epochs}.pth'
    pretraining = train_job(names[0], config_file(variant.config), folder, checkpoint, options, log=logs[0])
    encoder = [f'randomness.seed={seed}', f'model.backbone.init_cfg.checkpoint={pretraining.product}']
    probing = train_job(names[1], probe, linear, 'epoch_30.pth', encoder, log=logs[1], after=names[:1])
    metrics = linear / 'test.json'
    test = test_job(names[2], probe, probing.product, metrics, encoder, log=logs[2], after=names[1:2])
    return [pretraining, probing, test]


def main(args: argparse.Namespace) -> None:
    """Run the jobs that are not finished and print the table.

    Raises:
        UserError: If a job fails.
    """
    run([job for seed in range(args.seeds) for variant in VARIANTS for job in make_jobs(variant, seed, args.out)], args)
    from reprefine.visualization.run_comparison import comparison_table, read_run_result

    groups = {
        variant.label: [read_run_result(variant.work_dir(args.out, seed)) for seed in range(args.seeds)]
        for variant in VARIANTS
    }
    save_report(comparison_table(groups, ['knn_top1', 'accuracy/top1']), args.out / 'table.md')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

"""Evaluate the students of repfusion.py without fine-tuning, by a linear probe of their frozen features.

The classifier is fitted to all training images and evaluated on the test images, also for random weights.
"""

import argparse
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/repfusion_frozen.py work_dirs/repfusion_demo --seeds 5
"""
CONFIG = 'configs/repfusion/distill/resnet14-narrow_repfusion-{}-hint_6e_mnist5k-32px.py'
NETWORKS = ('random weights', 'rl', 'uniform', 'zero', 'best')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('folder', type=Path, help='output folder of tools/experiments/repfusion.py')
    parser.add_argument('--seeds', type=int, default=5, help='number of repetitions')


def main(args: argparse.Namespace) -> None:
    """Print mean and standard deviation of the accuracy of every network as a Markdown table."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from reprefine.engine.build import build_model
    from reprefine.engine.checkpoints.checkpoint import read_checkpoint
    from reprefine.engine.checkpoints.weights import check_match, load_weights
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.repfusion.teacher.linear_probe import logistic_regression_accuracy

    cfg = load_config(str(Path(__file__).parents[2] / CONFIG.format('uniform')))
    cfg.model.teacher.source = f'{args.folder}/teacher/teacher'
    splits = {split: load_split(split) for split in ('train', 'test')}

    @torch.no_grad()
    def accuracy(network: str, seed: int) -> float:
        torch.manual_seed(seed)
        model = build_model(cfg)
        if network == NETWORKS[0]:
            model.init_weights()
        else:
            file = f'{args.folder}/{network}_seed{seed}/epoch_6.pth'
            check_match(load_weights(model, read_checkpoint(file)), file, 1.0)
        model.eval()
        features = {}
        for split, (pixels, _) in splits.items():
            inputs = model.data_preprocessor(dict(inputs=pixels))['inputs']
            pooled = [model.extract_feat(batch)[-1].mean(dim=(2, 3)) for batch in inputs.split(500)]
            features[split] = torch.cat(pooled).double().numpy()
        return logistic_regression_accuracy(features['train'], splits['train'][1], features['test'], splits['test'][1])

    print('| students | frozen features, linear |\n| --- | ---: |')
    for network in NETWORKS:
        seeds = tqdm(range(args.seeds), desc=network, leave=False, disable=None)
        values = [accuracy(network, seed) for seed in seeds]
        print(f'| {network} | {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} |')


def load_split(split: str) -> tuple:
    """Return the images ``[N, 3, 32, 32]`` of a split of MNIST-5k in the students' input size, and their labels."""
    import numpy as np
    import torch
    from mmengine.dataset import pseudo_collate
    from mmpretrain.datasets.transforms import Resize

    from reprefine.tasks.classification.datasets.digits import SmallDigits

    data = SmallDigits('mnist5k', split)
    samples = [data.get_data_info(index) for index in range(len(data))]
    images = [torch.from_numpy(Resize(scale=32)(sample)['img']).permute(2, 0, 1) for sample in samples]
    return pseudo_collate(images), np.array([sample['gt_label'] for sample in samples])


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

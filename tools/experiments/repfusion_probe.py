"""Evaluate the features of a diffusion model on MNIST-5k by a linear probe at every 50th timestep.

The classifier is fitted to the training images and evaluated on the validation images.
"""

import argparse
import json
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/repfusion_probe.py work_dirs/repfusion_demo/teacher/teacher probe.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('teacher', help='folder of the diffusion model')
    parser.add_argument('out', help='JSON file to write: accuracy in percent of each timestep, and the best one')
    parser.add_argument('--interval', type=int, default=50, help='difference of consecutive timesteps')


def main(args: argparse.Namespace) -> None:
    """Run the linear probes and write the accuracies."""
    import torch
    from tqdm import tqdm

    from reprefine.engine.files import atomic_write
    from reprefine.methods.repfusion import DiffusionTeacher
    from reprefine.methods.repfusion.teacher.linear_probe import logistic_regression_accuracy
    from reprefine.tasks.classification.datasets.digits import SmallDigits

    teacher = DiffusionTeacher(args.teacher, [['mid_block.resnets.1.conv2', None]])
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def images(split: str) -> tuple[torch.Tensor, list[int]]:
        data = SmallDigits('mnist5k', split)
        samples = [data.get_data_info(index) for index in range(len(data))]
        pixels = torch.stack([torch.from_numpy(sample['img']).permute(2, 0, 1) for sample in samples])
        return teacher.prepare(pixels, mean, std), [sample['gt_label'] for sample in samples]

    splits = {split: images(split) for split in ('train', 'val')}

    def features(split: str, t: int) -> torch.Tensor:
        batches = splits[split][0].split(250)
        return torch.cat([teacher(batch, torch.full((len(batch),), t))[0].mean((2, 3)) for batch in batches])

    accuracy = {}
    for t in tqdm(range(0, teacher.num_timesteps, args.interval)):
        accuracy[t] = logistic_regression_accuracy(
            features('train', t), splits['train'][1], features('val', t), splits['val'][1]
        )
    with atomic_write(args.out) as path:
        Path(path).write_text(json.dumps(dict(best=max(accuracy, key=accuracy.get), accuracy=accuracy), indent=1))
    print(f'best timestep: {max(accuracy, key=accuracy.get)}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

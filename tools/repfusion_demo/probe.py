"""Probe a teacher's features on MNIST-5k: at every 50th timestep a linear classifier, judged on the validation images.

It is fitted to the training images; the test images take no part.
"""

import argparse
import json
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/repfusion_demo/probe.py work_dirs/repfusion_demo/teacher/teacher probe.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('teacher', help='folder of the diffusion model')
    parser.add_argument('out', help='JSON file to write: accuracy in percent of each timestep, and the best one')
    parser.add_argument('--interval', type=int, default=50, help='timesteps between two probes')


def main(args: argparse.Namespace) -> None:
    """Run the probes."""
    import torch
    from tqdm import tqdm

    from reprefine.engine.files import atomic_write
    from reprefine.methods.repfusion import DiffusionTeacher
    from reprefine.methods.repfusion.teacher.linear_probe import fitted_accuracy
    from reprefine.tasks.classification.datasets.digits import SmallDigits

    teacher = DiffusionTeacher(args.teacher, [['mid_block.resnets.1.conv2', None]])
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)

    def images(split: str) -> tuple[torch.Tensor, list[int]]:
        data = SmallDigits('mnist5k', split)
        samples = [data.get_data_info(index) for index in range(len(data))]
        pixels = torch.stack([torch.from_numpy(sample['img']).permute(2, 0, 1) for sample in samples])
        return teacher.prepare(pixels, mean, std), [sample['gt_label'] for sample in samples]

    sets = {split: images(split) for split in ('train', 'val')}

    def features(split: str, t: int) -> torch.Tensor:
        parts = sets[split][0].split(250)
        return torch.cat([teacher(part, torch.full((len(part),), t))[0].mean((2, 3)) for part in parts])

    accuracy = {}
    for t in tqdm(range(0, teacher.num_timesteps, args.interval)):
        accuracy[t] = fitted_accuracy(features('train', t), sets['train'][1], features('val', t), sets['val'][1])
    with atomic_write(args.out) as path:
        Path(path).write_text(json.dumps(dict(best=max(accuracy, key=accuracy.get), accuracy=accuracy), indent=1))
    print(f'best timestep: {max(accuracy, key=accuracy.get)}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

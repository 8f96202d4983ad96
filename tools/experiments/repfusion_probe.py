"""Evaluate the features of a diffusion model on MNIST-5k by a linear probe, at every 50th timestep and over training.

The classifier is fitted to the training images and evaluated on the validation images. Checkpoints before the last one
are evaluated at the timestep that is best for the last one.
"""

import argparse
import json
import re
from pathlib import Path

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/repfusion_probe.py work_dirs/repfusion_demo/teacher probe.json
"""
LAYER = 'mid_block.resnets.1.conv2'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('work_dir', type=Path, help='work dir of the training of the diffusion model')
    parser.add_argument('out', type=Path, help='JSON file to write: accuracies in percent, and the best timestep')
    parser.add_argument('--interval', type=int, default=50, help='difference of consecutive timesteps')
    parser.add_argument('--layer', default=LAYER, help=f'layer of the UNet (default: {LAYER})')


def main(args: argparse.Namespace) -> None:
    """Run the linear probes and write the accuracies."""
    import torch
    from tqdm import tqdm

    from reprefine.engine.checkpoints.checkpoint import read_checkpoint
    from reprefine.engine.files import atomic_write
    from reprefine.methods.repfusion import DiffusionTeacher
    from reprefine.methods.repfusion.teacher.linear_probe import logistic_regression_accuracy
    from reprefine.tasks.classification.datasets.digits import SmallDigits

    teacher = DiffusionTeacher(str(args.work_dir / 'teacher'), [[args.layer, None]])
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

    def accuracy(t: int) -> float:
        (_, train_labels), (_, labels) = splits['train'], splits['val']
        return logistic_regression_accuracy(features('train', t), train_labels, features('val', t), labels)

    by_timestep = {t: accuracy(t) for t in tqdm(range(0, teacher.num_timesteps, args.interval))}
    best = max(by_timestep, key=by_timestep.get)
    by_epoch = {}
    for epoch, file in tqdm(checkpoints(args.work_dir).items()):
        weights = read_checkpoint(str(file))['state_dict']
        teacher.unet.load_state_dict({key.removeprefix('unet.'): v for key, v in weights.items() if 'unet.' in key})
        by_epoch[epoch] = accuracy(best)
    with atomic_write(args.out) as path:
        Path(path).write_text(json.dumps(dict(best=best, by_timestep=by_timestep, by_epoch=by_epoch), indent=1))
    print(f'best timestep: {best} with {by_timestep[best]:.1f} %; over the training: {by_epoch}')


def checkpoints(work_dir: Path) -> dict[int, Path]:
    """Return the checkpoints of a work dir by their epoch, in order."""
    found = {int(re.fullmatch(r'epoch_(\d+)', file.stem)[1]): file for file in work_dir.glob('epoch_*.pth')}
    return dict(sorted(found.items()))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

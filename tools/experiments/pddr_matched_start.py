"""Write the start of a baseline with the output and the step size that an untrained PD-A network has.

The kernel of each convolution is the equivalent kernel of the branches with the statistics of one training batch. Its
scale, which the norm after it cancels, decides how far a gradient step moves the output. It is chosen for each output
channel such that a step moves the equivalent kernel as far as the steps of all branches do together, on average over
its entries. The scale of the norm is the standard deviation of PD-A's output.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool
from reprefine.methods.pddr import PDConv

EXAMPLE = """example:
  python tools/experiments/pddr_matched_start.py configs/pddr/classification/resnet18-w32-pda_10e_mnist5k.py start.pth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of a PD-A network')
    parser.add_argument('out', type=Path, help='checkpoint to write, for the config of the baseline')
    parser.add_argument('--seed', type=int, default=0, help='seed of the weights and of the batch')
    parser.add_argument('--images', type=int, default=256, help='size of the batch')
    add_config_arguments(parser)


@torch.no_grad()
def step_scale(conv: PDConv) -> Tensor:
    """Return the scale ``s`` of each output channel, ``[O]``: ``s^2`` is the mean rate of the equivalent kernel.

    A branch whose norm multiplies by ``t`` moves its entries of that kernel by ``t^2`` times rate and gradient.
    """
    entries = conv.kernel_size[0] * conv.kernel_size[1] * conv.in_channels // conv.groups
    parts = [part for _, part in conv.conv_norms()]
    squares = [part.norm_affine()[0] ** 2 * (part.conv.weight[0].numel() / entries) for part in parts]
    return torch.stack(squares).sum(0).sqrt()


@torch.no_grad()
def matched_state(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the state dict of the baseline with output and step size of an untrained PD-A network.

    Args:
        network: PD-A network, in training form; its running statistics become those of the images.
        images: Preprocessed images ``[N, 3, H, W]``.
    """
    convs = {name: module for name, module in network.named_modules() if isinstance(module, PDConv)}
    deviations = {}

    def measure(conv: PDConv, _: tuple, output: Tensor) -> None:  # now, because the activation may overwrite the output
        deviations[conv] = output.std((0, 2, 3), correction=0)

    handles = [conv.register_forward_hook(measure) for conv in convs.values()]
    for conv in convs.values():
        for _, part in conv.conv_norms():
            part.bn.momentum = 1.0
    network.train()
    network(images)
    for handle in handles:
        handle.remove()
    state = {key: value for key, value in network.state_dict().items() if not key.startswith(tuple(convs))}
    for name, conv in convs.items():
        norm = nn.BatchNorm2d(conv.out_channels)
        norm.weight.copy_(deviations[conv])
        prefix = '.'.join([*name.split('.')[:-1], conv.replaced_norm])
        state |= {f'{prefix}.{key}': value for key, value in norm.state_dict().items()}
        state[f'{name}.weight'] = conv.equivalent_kernels_biases()[0].sum(0) / step_scale(conv)[:, None, None, None]
    return state


def main(args: argparse.Namespace) -> None:
    """Write the checkpoint."""
    from mmengine.runner import Runner, set_random_seed

    from reprefine.engine.build import build_model
    from reprefine.engine.cli.launch import load_config
    from reprefine.engine.files import atomic_write

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    set_random_seed(args.seed)
    model = build_model(cfg)
    model.init_weights()
    loader = Runner.build_dataloader(cfg.train_dataloader | dict(batch_size=args.images), seed=args.seed)
    images = model.data_preprocessor(next(iter(loader)), training=True)['inputs']
    state = {f'backbone.{key}': value for key, value in matched_state(model.backbone, images).items()}
    state |= {key: value for key, value in model.state_dict().items() if not key.startswith('backbone.')}
    with atomic_write(args.out) as partial:
        torch.save(dict(state_dict=state, meta={}), partial)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)

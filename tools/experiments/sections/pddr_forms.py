"""A trained PD-A network with its branches and as one convolution a layer: outputs, parameters and latency."""

import statistics
from functools import partial

import torch
from pddr_digits import Labelled
from records import ROOT
from shipped import shipped_weights
from torch import Tensor, nn

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.cost.timing import interleave
from reprefine.methods.pddr import PDConv
from reprefine.visualization.results import markdown_table

CONFIG = ROOT / 'configs/pddr/classification/resnet18-w32-pda_10e_mnist5k.py'
NAMES = ('training form, four branches', 'deployed, one convolution')


def trained_network() -> nn.Module:
    """Return the shipped PD-A network in evaluation mode, with its branches computed one by one."""
    model = build_model(load_config(str(CONFIG)))
    model.load_state_dict(shipped_weights('pddr_resnet18'))
    for module in model.modules():
        if isinstance(module, PDConv):
            module.compute = 'branches'
    model.eval()
    return model


def normalized(images: Tensor) -> Tensor:
    """Return images ``[N, 1, 28, 28]`` of values 0 to 1 as the network reads them, ``[N, 3, 28, 28]``."""
    return ((images * 255 - 33.4) / 78.6).expand(-1, 3, -1, -1)


@torch.no_grad()
def compare_forms(data: Labelled, rounds: int) -> tuple[str, int]:
    """Return a table of the training form and the deployed form, and the number of PD layers."""
    branches, deployed = trained_network(), trained_network()
    layers = sum(isinstance(module, PDConv) for module in branches.modules())
    deployed.backbone.switch_to_deploy()
    x, labels = normalized(data[0]), data[1]
    outputs = [torch.cat([net(part) for part in x.split(100)]) for net in (branches, deployed)]
    difference = (outputs[0] - outputs[1]).abs().max().item()
    times = latencies((branches, deployed), x[:1], rounds)
    rows = []
    for name, net, y, milliseconds in zip(NAMES, (branches, deployed), outputs, times, strict=True):
        right = 100 * (y.argmax(1) == labels).float().mean().item()
        rows.append([name, f'{count_parameters(net):,}', f'{right:.1f}', f'{milliseconds:.1f}'])
    table = markdown_table(['PD-A', 'parameters', 'test accuracy (%)', 'one image (ms)'], rows)
    largest = outputs[0].abs().max().item()
    return f'{table}\n\nLargest difference of the outputs: {difference:.0e}; largest output: {largest:.0f}.', layers


def latencies(networks: tuple[nn.Module, ...], image: Tensor, rounds: int) -> list[float]:
    """Return the median time in milliseconds of each network, in interleaved rounds."""
    passes = [partial(partial, net, image) for net in networks]
    return [1000 * statistics.median(seconds) for seconds in interleave(passes, rounds, warmup=0)]

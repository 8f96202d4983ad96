"""The fully connected network of the authors' demonstration, plain and with PD, and its training in float64."""

import math
from dataclasses import dataclass

import torch
from pddr_digits import Labelled, batches, digits, step
from torch import Tensor, nn

from reprefine.methods.pddr import PDLinear
from reprefine.models.mlp import MLP

WIDTHS = (784, 64, 10)


@dataclass(frozen=True)
class Setting:
    """A network and its training.

    Attributes:
        label: Name of the row.
        mode: PD mode; None for linear layers.
        draws: Number of random draws whose sum a linear layer starts from.
        rate: Factor of the learning rate.
    """

    label: str
    mode: str | None = None
    draws: int = 1
    rate: float = 1.0


PLAIN, PDA = Setting('plain'), Setting('PD-A', 'A')
EQUIVALENT = Setting('plain, sum of two draws, twice the rate', None, 2, 2.0)
SETTINGS = (
    PLAIN,
    Setting('plain, twice the rate', None, 1, 2.0),
    Setting('plain, sum of two draws', None, 2, 1.0),
    EQUIVALENT,
    PDA,
    Setting('PD-B', 'B'),
)


def network(setting: Setting, seed: int) -> MLP:
    """Return the network of a setting in float64; the draws of a seed are the same in all settings."""
    torch.manual_seed(seed)
    drawn = MLP(WIDTHS, dict(type=PDLinear, mode='A')).double()
    if setting.mode == 'A':
        return drawn
    net = MLP(WIDTHS, setting.mode and dict(type=PDLinear, mode=setting.mode)).double()
    for layer, pair in zip(net.layers, drawn.layers, strict=True):
        if setting.mode:
            layer.standard1, layer.standard2 = pair.standard1, pair.standard2
        else:
            start = pair.standard1.state_dict() if setting.draws == 1 else pair_sum(pair)
            layer.load_state_dict(start)
    return net


def pair_sum(layer: PDLinear) -> dict[str, Tensor]:
    """Return the state dict of the linear layer that PD-A is reparameterised to."""
    return dict(zip(('weight', 'bias'), layer.equivalent_weight_bias(), strict=True))


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, data: Labelled, seed: int, schedule: tuple[int, int]
) -> None:
    """Train with batches of 64; the learning rate is multiplied by 0.7 at regular intervals.

    Args:
        net: The network.
        optimizer: Its optimiser.
        data: Images and labels.
        seed: Seed of the order of the images.
        schedule: Number of epochs, and of epochs between changes of the learning rate.
    """
    images, labels = data
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, schedule[1], gamma=0.7)
    last = 0
    for epoch, batch in batches(len(images), 64, schedule[0], torch.Generator().manual_seed(seed)):
        if epoch != last:
            scheduler.step()
            last = epoch
        step(optimizer, net(images[batch])[0], labels[batch])


def plain_weights(net: MLP) -> Tensor:
    """Return all weights and biases of the reparameterised network as one vector."""
    parts = [pair_sum(layer) if isinstance(layer, PDLinear) else layer.state_dict() for layer in net.layers]
    return torch.cat([value.detach().flatten() for part in parts for value in part.values()])


def distance(net: MLP, reference: MLP) -> float:
    """Return log10 of the largest difference of reparameterised weights, relative to the largest weight."""
    weights, expected = plain_weights(net), plain_weights(reference)
    return math.log10(max(((weights - expected).abs().max() / expected.abs().max()).item(), 1e-17))


def float64_digits(split: str) -> Labelled:
    """Return images and labels, the images in float64, in which rounding errors do not decide the comparison."""
    images, labels = digits(split)
    return images.double(), labels

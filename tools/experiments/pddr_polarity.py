"""A network of one narrow convolution for digits of random polarity: the right kernel depends on the image."""

from dataclasses import dataclass

import torch
from pddr_digits import accuracy, batches, digits, step
from torch import Tensor, nn

from reprefine.engine.cost.counting import count_parameters
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.functional import mixed_outputs_conv
from reprefine.methods.pddr.layers.branches import ConvNorm

CHANNELS, GRID, WIDTH, BATCH = 4, 4, 2, 100
BOTH = (1, -1)


@dataclass(frozen=True)
class Setting:
    """A form of the convolution.

    Attributes:
        label: Name of the row.
        mode: PD mode; None for convolution and norm.
        width: Output channels.
        constant_gates: Whether the gates of PD-B are trained, but equal for all images.
    """

    label: str
    mode: str | None = None
    width: int = WIDTH
    constant_gates: bool = False


PLAIN, PDA, PDB = Setting('plain'), Setting('PD-A', 'A'), Setting('PD-B', 'B')
CONSTANT = Setting('PD-B, gates equal for all images', 'B', constant_gates=True)
SETTINGS = (
    PLAIN,
    PDA,
    CONSTANT,
    PDB,
    Setting('plain, as many parameters as PD-B', width=3),
    Setting('plain, twice the feature maps', width=4),
)


def signed_digits(split: str) -> tuple[Tensor, Tensor]:
    """Return images of values -1 to 1, whose negative is the inverted image, and labels.

    The pixels of each 2x2 block are channels: ``[N, 4, 14, 14]``.
    """
    images, labels = digits(split)
    return nn.functional.pixel_unshuffle(2 * images - 1, 2), labels


def build(setting: Setting, seed: int, linear: bool = False) -> nn.Sequential:
    """Return the network: convolution 3x3, ReLU, average pooling to 4x4 positions, linear classifier.

    The gate of PD-B has as many hidden units as the image has channels.

    Args:
        setting: Form of the convolution.
        seed: Seed of the weights.
        linear: Whether the ReLU is left out.
    """
    torch.manual_seed(seed)
    one = 1, 1
    if setting.mode is None:
        conv = ConvNorm(CHANNELS, setting.width, (3, 3), one, one, one, 1, dict(type='BN'))
    else:
        conv = PDConv(CHANNELS, setting.width, 3, padding=1, mode=setting.mode, group_num='auto', reduction=1)
    if setting.constant_gates:
        nn.init.zeros_(conv.gate.fc2.weight)
        conv.gate.fc2.weight.requires_grad_(False)
    classifier = nn.Linear(setting.width * GRID**2, 10)
    activation = nn.Identity() if linear else nn.ReLU()
    return nn.Sequential(conv, activation, nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), classifier)


def train(
    setting: Setting, random_polarity: bool, rate: float, seed: int, epochs: int, linear: bool = False
) -> nn.Sequential:
    """Train with Adam and a cosine schedule, and return the reparameterised network in evaluation mode.

    Args:
        setting: The setting.
        random_polarity: Whether each image is inverted with probability 1/2, drawn anew in each epoch.
        rate: Initial learning rate.
        seed: Seed of weights, order and polarity.
        epochs: Number of epochs.
        linear: See :func:`build`.
    """
    net, generator = build(setting, seed, linear), torch.Generator().manual_seed(seed)
    images, labels = signed_digits('train')
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate)
    steps = epochs * -(-len(images) // BATCH)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _, batch in batches(len(images), BATCH, epochs, generator):
        signs = torch.randint(0, 2, (len(batch), 1, 1, 1), generator=generator) * 2 - 1
        x = images[batch] * signs if random_polarity else images[batch]
        step(optimizer, net(x), labels[batch], scheduler)
    if isinstance(net[0], PDConv):
        net[0].switch_to_deploy()
    return net.eval()


def measure(net: nn.Sequential, random_polarity: bool, split: str) -> float:
    """Return the accuracy in percent on the images of a split, each in both polarities if the polarity is random."""
    images, labels = signed_digits(split)
    signs = BOTH if random_polarity else BOTH[:1]
    return sum(accuracy(net, sign * images, labels) for sign in signs) / len(signs)


def with_gates_of_inverted(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return the logits of a reparameterised PD-B network whose gates read the inverted images."""
    conv = net[0]
    kernels, biases = conv.reparam_weight, conv.reparam_bias
    geometry = conv.stride, conv.padding, conv.dilation, conv.groups
    return net[1:](mixed_outputs_conv(x, conv.gate(-x), kernels, biases, *geometry))


@torch.no_grad()
def gate_difference(net: nn.Sequential) -> float:
    """Return the mean total variation, 0 to 1, between the gates of a test image and of its inverted image."""
    gate, images = net[0].gate, signed_digits('test')[0]
    return ((gate(images) - gate(-images)).abs().sum(1) / 2).mean().item()


def size(setting: Setting) -> dict[str, int]:
    """Return parameters in training form, and of the deployed network, classifier included."""
    net = build(setting, 0)
    trained = count_parameters(net)
    if isinstance(net[0], PDConv):
        net[0].switch_to_deploy()
    return dict(training=trained, deployed=count_parameters(net))

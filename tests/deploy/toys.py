"""A deployable layer, and a network of two."""

import torch
from torch import Tensor, nn


class TwoBranches(nn.Module):
    """Sum of two linear layers; computed with merged weights."""

    def __init__(self, inputs: int, outputs: int, error: float = 0.0):
        super().__init__()
        self.in_features, self.deploy, self.error = inputs, False, error
        self.first, self.second = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def merged_weights(self) -> tuple[Tensor, Tensor]:
        return self.first.weight + self.second.weight + self.error, self.first.bias + self.second.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.merged(x) if self.deploy else nn.functional.linear(x, *self.merged_weights())

    def explicit_output(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        if self.deploy:
            return
        weight, bias = self.merged_weights()
        self.merged = nn.Linear(self.in_features, len(bias))
        self.merged.load_state_dict(dict(weight=weight, bias=bias))
        del self.first, self.second
        self.deploy = True

    def baseline_modules(self) -> dict[str, nn.Module]:
        return {'': self.merged}


class Aside(nn.Module):
    """Has a child that its forward pass does not use."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x


def two_layers(error: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(TwoBranches(5, 4), nn.ReLU(), TwoBranches(4, 3, error)).eval()


def baseline_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()

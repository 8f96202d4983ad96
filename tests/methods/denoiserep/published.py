"""A layer of the form that the released code stores, and a file of its kind."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

STEPS, WIDTH = 1000, 16
NAMES = ('betas', 'alphas_cumprod', 'alphas_cumprod_prev', *(f'constant{i}' for i in range(9)))


class PublishedLinear(nn.Linear):
    """Base layer, predictor, time network and twelve vectors; the predictor sees the time vector added to its input."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None)
        self.load_state_dict(base.state_dict())
        width = base.in_features
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, width), nn.GELU(), nn.Linear(width, width))
        self.dm = nn.Linear(width, width)
        for name in NAMES:
            self.register_buffer(name, torch.linspace(1e-4, 2e-3, STEPS, dtype=torch.float64).float())

    def predict_noise(self, x: Tensor, t: int) -> Tensor:
        f = torch.exp(-torch.arange(WIDTH // 2) * math.log(10000) / (WIDTH // 2 - 1))
        return self.dm(x + self.time_mlp(torch.cat([torch.sin(t * f), torch.cos(t * f)])))


def save(state_dict: dict, folder: Path, name: str = 'published.pth', **more) -> str:
    torch.save(dict(model=state_dict, epoch=3, **more), folder / name)
    return str(folder / name)

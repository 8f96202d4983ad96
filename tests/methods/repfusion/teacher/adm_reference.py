"""Reference implementation of the UNet of guided-diffusion, with its parameter names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2) / (width // 2))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Res(nn.Module):
    def __init__(self, width: int, out: int, emb: int, resample=None):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if width == out else nn.Conv2d(width, out, 1)
        self.resample = resample or nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[2](self.resample(self.in_layers[:2](x)))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        return self.skip_connection(self.resample(x)) + self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)


class Attention(nn.Module):
    def __init__(self, width: int, head: int, order: str):
        super().__init__()
        self.norm, self.head, self.order = nn.GroupNorm(32, width), head, order
        self.qkv, self.proj_out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        n, c, *side = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))
        shape = (n * (c // self.head), self.head, -1)
        if self.order == 'new':
            q, k, v = (part.reshape(shape) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.reshape(shape[0], 3 * self.head, -1).split(self.head, dim=1)
        weights = torch.softmax(torch.einsum('nct,ncs->nts', q, k) / math.sqrt(self.head), dim=-1)
        h = torch.einsum('nts,ncs->nct', weights, v).reshape(n, c, -1)
        return x + self.proj_out(h).reshape(n, c, *side)


class Run(nn.ModuleList):
    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, emb)
        return x


class ADM(nn.Module):
    def __init__(
        self, size: int, base: int, mult, blocks: int, attention_at, head: int, classes: int | None, order: str
    ):
        super().__init__()
        emb = 4 * base
        self.base = base
        self.time_embed = nn.Sequential(nn.Linear(base, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label_emb = nn.Embedding(classes, emb) if classes else None
        self.input_blocks = nn.ModuleList([Run([nn.Conv2d(3, base, 3, padding=1)])])
        widths, width = [base], base
        for level, m in enumerate(mult):
            for _ in range(blocks):
                layers = [Res(width, m * base, emb)]
                width = m * base
                if size >> level in attention_at:
                    layers.append(Attention(width, head, order))
                self.input_blocks.append(Run(layers))
                widths.append(width)
            if level < len(mult) - 1:
                self.input_blocks.append(Run([Res(width, width, emb, nn.AvgPool2d(2))]))
                widths.append(width)
        self.middle_block = Run([Res(width, width, emb), Attention(width, head, order), Res(width, width, emb)])
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(blocks + 1):
                layers = [Res(width + widths.pop(), m * base, emb)]
                width = m * base
                if size >> level in attention_at:
                    layers.append(Attention(width, head, order))
                if level and i == blocks:
                    layers.append(Res(width, width, emb, nn.Upsample(scale_factor=2)))
                self.output_blocks.append(Run(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, 6, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        emb = self.time_embed(timestep_embedding(t, self.base))
        if labels is not None:
            emb = emb + self.label_emb(labels)
        skips = []
        for block in self.input_blocks:
            x = block(x, emb)
            skips.append(x)
        x = self.middle_block(x, emb)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), emb)
        return self.out(x)


def train(model: ADM, abar: Tensor, size: int, steps: int) -> None:
    """Teach it to remove noise from smooth random images."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(steps):
        coarse = torch.rand(8, 3, 2, 2, generator=generator) * 2 - 1
        images = F.interpolate(coarse, size, mode='bilinear')
        noise = torch.randn(images.shape, generator=generator)
        t = torch.randint(0, len(abar), (8,), generator=generator)
        a = abar[t, None, None, None]
        loss = F.mse_loss(model(a.sqrt() * images + (1 - a).sqrt() * noise, t)[:, :3], noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

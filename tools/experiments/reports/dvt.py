"""Report of the DVT experiment: tables, and images of the denoisers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reprefine.engine.data_checks.images import read_image
from reprefine.methods.dvt import FeatureDenoiser, FeaturePairs
from reprefine.methods.dvt.denoiser.checkpoint import load_denoiser
from reprefine.methods.dvt.visualization.denoiser_plot import Prediction, denoiser_strip
from reprefine.methods.dvt.visualization.position_metrics import fixed_fraction, position_correlation, variance_ratio
from reprefine.visualization.images import write_png

LABELS = {
    'raw': 'raw features',
    'dvt': 'denoiser, closed-form targets',
    'identity': 'control, trained on raw features',
    'few-closed-form': 'denoiser, 12 images, closed form',
    'few-field': 'denoiser, 12 images, neural field',
    'patterned-raw': 'known artifact, raw features',
    'patterned-dvt': 'known artifact, denoiser',
}


def write_report(out: Path, folders: Mapping[str, Path], probes: Sequence[str], seeds: int) -> str:
    """Write ``report.md`` and images of the denoisers; return the text.

    Args:
        out: Output folder of the experiment.
        folders: Folders of the stored features.
        probes: Names of the probes.
        seeds: Number of repetitions.
    """
    pairs = {name: FeaturePairs(folder, _model_id(folder)) for name, folder in folders.items()}
    text = f'{_probe_table(out, probes, seeds)}\n\n{_position_table(out, pairs)}\n\n{_pattern_lines(pairs)}\n'
    (out / 'report.md').write_text(text)
    for name, denoiser in (('closed-form', 'dvt'), ('patterned', 'patterned-dvt')):
        write_png(_draw_denoiser(out, pairs[name], denoiser), out / f'denoiser_{name}.png')
    return text


def _model_id(folder: Path) -> str:
    """Return the name of the first model whose features are in a folder."""
    return min(folder.glob('*.json')).stem


def _probe_table(out: Path, probes: Sequence[str], seeds: int) -> str:
    lines = ['| linear segmentation | mIoU | pixel accuracy | change of mIoU against raw |', '|---|---:|---:|---:|']
    values = {name: [_metrics(out, name, seed) for seed in range(seeds)] for name in probes}
    for name in probes:
        base = values['patterned-raw' if name.startswith('patterned') else 'raw']
        gains = [a['mIoU'] - b['mIoU'] for a, b in zip(values[name], base, strict=True)]
        cells = [_mean_std([metrics[key] for metrics in values[name]]) for key in ('mIoU', 'aAcc')]
        lines.append(f'| {LABELS[name]} | {" | ".join(cells)} | {"" if name.endswith("raw") else _mean_std(gains)} |')
    return '\n'.join(lines)


def _metrics(out: Path, name: str, seed: int) -> dict[str, float]:
    return json.loads((out / f'probe_{name}_seed{seed}/test.json').read_text())


def _mean_std(values: Sequence[float]) -> str:
    return f'{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}'


def stored(pairs: FeaturePairs, count: int | None = None) -> dict[str, Tensor]:
    """Return raw and denoised features and the artifact of the first images, each (N, h, w, C)."""
    names = pairs.names[:count]
    artifacts = [np.load(pairs.root / 'components' / pairs.model_id / f'{name}.npz')['G'] for name in names]
    return dict(
        raw=torch.from_numpy(np.stack([pairs.raw(name) for name in names])),
        F=torch.from_numpy(np.stack([pairs.denoised(name) for name in names])),
        G=torch.from_numpy(np.stack(artifacts).astype(np.float32)),
    )


def denoised(out: Path, name: str, raw: Tensor) -> Tensor:
    """Return what the denoiser of seed 0 gives for raw features (N, h, w, C)."""
    model = FeatureDenoiser(raw.shape[-1], grid=raw.shape[1], num_heads=3)
    load_denoiser(model, str(out / f'{name}_seed0/iter_300.pth'))
    with torch.no_grad():
        return model.eval()(raw.movedim(-1, 1)).movedim(1, -1)


def _position_table(out: Path, pairs: Mapping[str, FeaturePairs]) -> str:
    lines = [
        '| features | correlation with x and y, best channel | mean over channels | variance fixed over images |',
        '|---|---:|---:|---:|',
    ]
    for name, denoiser in (('closed-form', 'dvt'), ('field', 'few-field'), ('patterned', 'patterned-dvt')):
        maps = stored(pairs[name])
        maps['denoiser'] = denoised(out, denoiser, maps['raw'])
        for part in ('raw', 'F', 'denoiser'):
            best, mean = position_correlation(maps[part])
            lines.append(f'| {name}: {part} | {best:.3f} | {mean:.3f} | {fixed_fraction(maps[part]):.3f} |')
    return '\n'.join(lines)


def _pattern_lines(pairs: Mapping[str, FeaturePairs]) -> str:
    lines = []
    for name, features in pairs.items():
        maps = stored(features)
        lines.append(f'{name}: variance of G over that of raw features {variance_ratio(maps["G"], maps["raw"]):.4f}')
    few = len(pairs['field'].names)
    denoised_features = [stored(pairs[name], few)['F'] for name in ('closed-form', 'field')]
    correlation = _correlation(*denoised_features)
    lines.append(f'correlation of F in closed form and of the field, {few} images: {correlation:.4f}')
    clean = stored(pairs['closed-form'])
    patterned = stored(pairs['patterned'])
    pattern = (patterned['raw'] - clean['raw']).mean(0, keepdim=True)
    found = patterned['G'] - clean['G']
    lines.append(f'correlation of the known artifact and the change of G: {_correlation(found, pattern):.4f}')
    for part in ('raw', 'F'):
        lines.append(
            f'correlation of {part} with and without the artifact: {_correlation(patterned[part], clean[part]):.4f}'
        )
    return '\n'.join(lines)


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return the correlation over all elements, with the mean of each channel over the grid subtracted."""
    a, b = (x.double() - x.double().mean((1, 2), keepdim=True) for x in torch.broadcast_tensors(a, b))
    return ((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()).item()


def _draw_denoiser(out: Path, pairs: FeaturePairs, denoiser: str) -> np.ndarray:
    maps = stored(pairs, 3)
    predicted = denoised(out, denoiser, maps['raw'])
    images = [read_image(out / 'scenes/images/training' / name) for name in pairs.names[:3]]
    return denoiser_strip(
        [
            Prediction(image, *(feature.numpy() for feature in features))
            for image, *features in zip(images, maps['raw'], maps['F'], predicted, strict=True)
        ]
    )

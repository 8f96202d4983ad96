"""Report of the DenoiseRep experiment: a table, curves, and the noise loss of every layer."""

import json
from pathlib import Path

import numpy as np
import torch
from denoiserep_variants import BASELINE, CLOSEDFORM, CONTROL, DATASETS, DENOISEREP, NO_STEP, SELECTED, Variant
from records import Metric, Record, Row, environment, save_record

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.cost.models import quiet_log
from reprefine.engine.runner import Runner
from reprefine.methods.denoiserep import FeatureMoments, collect_moments, expected_noise_losses, fit_closed_form
from reprefine.visualization.results import (
    epoch_series,
    markdown_table,
    mean_std,
    paired_difference,
    plot_bars,
    plot_curves,
    read_scalars,
    seconds_of_training,
)

HEADER = (
    'model',
    'test accuracy (%)',
    'minus control',
    'parameters',
    'latency / baseline',
    'extra training time / baseline training',
)


def write_report(out: Path, dataset: str, variants: list[Variant], seeds: list[int]) -> str:
    """Write ``report.md`` and its plots into ``out`` and return the text."""
    accuracy = {variant: [_accuracy(variant.work_dir(out, seed)) for seed in seeds] for variant in variants}
    plot_curves(_panels(out, variants, seeds), 'epoch', out / 'curves.png')
    plot_bars(*_noise_losses(out, dataset, seeds), 'expected L2 noise loss', 'noise loss per layer', out / 'noise.png')
    text = f"""# DenoiseRep, its baseline and a control of equal budget

{DATASETS[dataset]}. A ViT of width 64 and depth 3, seeds {', '.join(map(str, seeds))}, mean ± standard deviation. Test
accuracy of the last epoch; nothing was selected on the test images. Latency: median over rounds in which the
deployed network and the baseline alternate. These are not results on the paper's benchmarks.

{_table(out, accuracy, seeds)}

{verdict(accuracy[DENOISEREP], accuracy[CONTROL])}

![validation accuracy and training loss](curves.png)

Noise loss on the test images: noise predictors untrained, trained with DenoiseRep, and fitted in closed form from one
pass over the training images (mean over the seeds; predicting zero gives 1).

![noise loss of every layer](noise.png)
"""
    (out / 'report.md').write_text(text)
    return text


def write_record(file: Path, out: Path, dataset: str, variants: list[Variant], seeds: list[int]) -> None:
    """Write the test accuracies as a record; the control of all rows is the one in the phases of DenoiseRep."""
    rows = [
        Row(
            variant.label,
            {'accuracy': [_accuracy(variant.work_dir(out, seed)) for seed in seeds]},
            None if variant is NO_STEP else NO_STEP.label,
        )
        for variant in variants
    ]
    runs = [variant.work_dir(out, seed) for variant in variants for seed in seeds]
    record = Record(
        title='DenoiseRep, its baseline and its controls, trained by the configs',
        kind='end to end',
        data=DATASETS[dataset],
        seeds=seeds,
        metrics={'accuracy': Metric('test accuracy (%)')},
        rows=rows,
        minutes=sum(seconds_of_training(read_scalars(run)) for run in runs) / 60,
        threads=1,
        **environment(),
    )
    save_record(file, record)


def verdict(accuracy: list[float], control: list[float]) -> str:
    """Return whether the method is better than its control, given the spread of the paired differences."""
    differences = np.subtract(accuracy, control)
    mean = differences.mean()
    if len(differences) < 2:
        return f'DenoiseRep is {mean:+.2f} points from the control. **One seed** gives no spread.'
    if mean <= 0:
        return f'DenoiseRep is **not better** than the control ({mean:+.2f} points).'
    spread = differences.std(ddof=1)
    if mean <= spread:
        return f'DenoiseRep is {mean:+.2f} points from the control, **within the spread** of the seeds ({spread:.2f}).'
    return f'DenoiseRep is better than the control by {mean:.2f} points; the spread of the seeds is {spread:.2f}.'


def _accuracy(folder: Path) -> float:
    return json.loads((folder / 'test.json').read_text())['accuracy/top1']


def _table(out: Path, accuracy: dict[Variant, list[float]], seeds: list[int]) -> str:
    latency = _latency(json.loads((out / 'cost.json').read_text()))
    rows = [
        (
            variant.label,
            mean_std(values),
            '-' if variant is CONTROL else paired_difference(values, accuracy[CONTROL]),
            f'{_parameters(variant.tested_checkpoint(out, seeds[0])):,}',
            latency if variant.is_reparameterized else '1 (same network)',
            '-' if variant is BASELINE else _extra_time(out, variant, seeds),
        )
        for variant, values in accuracy.items()
    ]
    return markdown_table(HEADER, rows)


def _parameters(checkpoint: Path) -> int:
    """Return the number of elements in the tested checkpoint."""
    return sum(t.numel() for t in torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict'].values())


def _latency(cost: dict) -> str:
    """Return median and interquartile range of the ratio; all deployed variants have the same network."""
    ratio = next(f['ratio'] for f in cost['figures'] if f['name'].startswith('inference latency'))
    return f'{ratio["median"]:.2f} (IQR {ratio["iqr"]:.2f})'


def _extra_time(out: Path, variant: Variant, seeds: list[int]) -> str:
    def seconds(of: Variant, seed: int) -> float:
        return seconds_of_training(read_scalars(of.work_dir(out, seed)))

    return mean_std([seconds(variant, seed) / seconds(BASELINE, seed) for seed in seeds])


def _panels(out: Path, variants: list[Variant], seeds: list[int]) -> list[tuple[str, str, dict]]:
    """Return panels of the validation accuracy of all runs and of the refinement, and of the training loss."""
    refined = [variant for variant in variants if variant not in (BASELINE, CLOSEDFORM, SELECTED)]
    accuracy, loss = ('top-1 accuracy (%)', 'accuracy/top1'), ('cross entropy', 'loss')
    panels = (
        ('validation accuracy', accuracy, (BASELINE, *refined)),
        ('validation accuracy, refinement', accuracy, refined),
        ('training loss of the task', loss, (BASELINE, CONTROL, DENOISEREP)),
    )
    return [
        (title, label, {variant.name: _runs(out, variant, seeds, key) for variant in variants})
        for title, (label, key), variants in panels
    ]


def _runs(out: Path, variant: Variant, seeds: list[int], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs of shape (N,), counted from the start of the baseline, and values of shape (runs, N)."""
    series = [epoch_series(read_scalars(variant.work_dir(out, seed)), key) for seed in seeds]
    start = 0 if variant is BASELINE else BASELINE.epochs
    return series[0][0] + start, np.array([values for _, values in series])


def _noise_losses(out: Path, dataset: str, seeds: list[int]) -> tuple[list[str], dict[str, list[float]]]:
    """Return the layers' names, and their mean noise loss over the seeds for each state of the predictors."""
    runs = [_measure_noise_losses(DENOISEREP.checkpoint(out, seed), dataset) for seed in seeds]
    layers = list(runs[0]['untrained'])
    names = [layer.removeprefix('backbone.layers.') for layer in layers]
    return names, {
        state: [float(np.mean([run[state][layer] for run in runs])) for layer in layers] for state in runs[0]
    }


def _measure_noise_losses(checkpoint: Path, dataset: str) -> dict[str, dict[str, float]]:
    cfg = load_config(str(DENOISEREP.config_file(dataset)))
    torch.manual_seed(0)  # weights of the untrained predictors
    with quiet_log():
        untrained, model = build_model(cfg).eval(), build_model(cfg).eval()
    model.load_state_dict(torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict'])
    train, test = (_moments(model, loader) for loader in (cfg.train_dataloader, cfg.test_dataloader))
    losses = {
        'untrained': expected_noise_losses(untrained, test),
        'trained (DenoiseRep)': expected_noise_losses(model, test),
    }
    fit_closed_form(model, train)
    return losses | {'closed form': expected_noise_losses(model, test)}


@torch.no_grad()
def _moments(model: torch.nn.Module, dataloader: dict) -> dict[str, FeatureMoments]:
    with collect_moments(model) as moments:
        for batch in Runner.build_dataloader(dataloader):
            model(**model.data_preprocessor(batch), mode='tensor')
    return moments

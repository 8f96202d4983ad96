"""Feature transformation: scores of positives and negatives while a trained MoCo is trained on."""

from pathlib import Path

from feature_transform_scores import fixed_weights
from moco_training import Variant, knn_accuracy, train_together, view_batches
from records import ROOT, read_record
from shipped import shipped_weights

from reprefine.methods.feature_transform.score_plots import running_mean
from reprefine.visualization.figures import FIGURE_STYLE, save_figure
from reprefine.visualization.results import markdown_table, mean_std

from .section import Figure, Progress, Section

TITLE = 'Feature transformation: harder pairs for MoCo'
SECONDS = 45
CHECKPOINT = 'moco_mnist5k'
RESULTS = ROOT / 'configs/feature_transform/results'
VARIANTS = (Variant('MoCo'), Variant('FT', {}), Variant('negatives only', dict(pos=None)))
KEYS = ('pos_mean', 'neg_mean', 'neg_var')
History = dict[str, list[dict[str, float]]]


def run(folder: Path, progress: Progress, epochs: int = 3, images: int | None = None, draws: int = 300) -> Section:
    """Train the shipped MoCo on, with and without the transform.

    Args:
        folder: Folder of the figure.
        progress: Called with the finished fraction.
        epochs: Number of epochs.
        images: Number of images; None: all.
        draws: Draws of the coefficients with fixed weights.
    """
    weights = shipped_weights(CHECKPOINT)
    fixed = fixed_weights(weights, 0, {'FT': (2.0, 1.6), 'MoCo': (None, None)}, draws)
    steps = epochs * ((images or 3000) // 64)
    models, history = train_together(
        VARIANTS, weights, view_batches(epochs, 0, images), 0, lambda step: progress(0.05 + 0.8 * step / steps)
    )
    rows = []
    for number, (name, model) in enumerate(models.items(), 1):
        last = history[name][-(steps // epochs) :]
        means = [sum(step[key] for step in last) / len(last) for key in ('pos_mean', 'raw_pos_mean', 'raw_neg_mean')]
        rows.append([name, *(f'{mean:.2f}' for mean in means), f'{knn_accuracy(model, images):.1f}'])
        progress(0.85 + 0.05 * number)
    header = ['last epoch', 'positives in the loss', 'positives', 'negatives', 'kNN, test images (%)']
    return Section(
        what=_what(epochs),
        number=f'{_fixed_text(fixed, draws)}\n\n{markdown_table(header, rows)}',
        figures=(plot_scores(history, folder / 'scores.png'),),
        limits=_limits(),
        experiment='python tools/experiments/feature_transform.py --seeds 5',
        minutes=95,
        own_model=OWN_MODEL,
    )


def _what(epochs: int) -> str:
    return (
        'MoCo trains an encoder without labels: two views of an image are a positive pair, whose score (cosine '
        'similarity) should be high, and the keys of a queue are negatives, whose scores should be low. Feature '
        'transformation (FT) extrapolates each pair along the line through it, which lowers its score, and mixes each '
        f'negative with another one. A small ResNet, pre-trained with MoCo on MNIST digits, is trained on for {epochs} '
        'epochs three times, on the same batches: as before, with FT, and with the negatives mixed only.'
    )


def _fixed_text(fixed: dict, draws: int) -> str:
    before, after = fixed['MoCo'], fixed['FT']
    return (
        f'With fixed weights, FT lowers the mean score of the positives from {before["pos_mean"]:.3f} to '
        f'{after["pos_mean"]:.3f} (mean of {draws} draws; the formula gives {after["expected_pos_mean"]:.3f}); the '
        f'mean of the negatives goes from {before["neg_mean"]:.3f} to {after["neg_mean"]:.3f} '
        f'(formula: {after["expected_neg_mean"]:.3f}).'
    )


def _limits() -> str:
    """Return what the records say about the features; an experiment without a record is not quoted."""
    scores = read_record(RESULTS / 'mechanism_scores.json')
    small, large = (scores.row(f'positives, alpha {alpha}').values['pos_mean'] for alpha in (0.2, 5.0))
    text = (
        'This shows what FT does to the scores, not that the features get better. The strength of the extrapolation '
        f'hardly depends on `alpha`: over five batches the mean score of the positives is {mean_std(small, 2)} with '
        f'alpha 0.2 and {mean_std(large, 2)} with alpha 5.'
    )
    if (file := RESULTS / 'mechanism_training.json').is_file():
        knn = {name: mean_std(read_record(file).row(name).values['knn'], 1) for name in ('MoCo', 'FT')}
        text += (
            f' With five seeds the accuracy of nearest neighbours after training on was {knn["MoCo"]} % with MoCo and '
            f'{knn["FT"]} % with FT.'
        )
    if (file := RESULTS / 'end_to_end_queue_2048.json').is_file():
        linear = {name: mean_std(read_record(file).row(name).values['linear'], 1) for name in ('MoCo v2', 'FT')}
        text += (
            f' Trained from random weights for 60 epochs, MoCo reached {linear["MoCo v2"]} % in linear evaluation and '
            f'FT {linear["FT"]} %.'
        )
    else:
        text += ' Trained from random weights, FT collapsed in short runs and was worse than MoCo.'
    return f'{text} The published gains are on ImageNet and were not reproduced here.'


def plot_scores(history: History, file: Path) -> Figure:
    """Plot the mean scores of positives and negatives of each step.

    Args:
        history: Statistics of each step by the name of the run.
        file: PNG file.
    """
    import numpy as np
    from matplotlib import pyplot as plt

    with plt.rc_context({**FIGURE_STYLE, 'font.size': 15, 'axes.titlesize': 15, 'axes.labelsize': 15}):
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout='constrained')
        for number, (name, steps) in enumerate(history.items()):
            curves = {key: running_mean(np.array([step[key] for step in steps]), 15) for key in KEYS}
            x, spread = np.arange(1, len(steps) + 1), np.sqrt(curves['neg_var'])
            axes[0].plot(x, curves['pos_mean'], label=name, linewidth=2.4)
            axes[1].plot(x, curves['neg_mean'], linewidth=2.4)
            for sign in (-1, 1):
                axes[1].plot(x, curves['neg_mean'] + sign * spread, color=f'C{number}', linestyle='--', linewidth=1.6)
        axes[0].set(title='positives', ylabel='score', xlabel='training step')
        axes[1].set(title='negatives', xlabel='training step')
        figure.legend(loc='outside lower center', ncols=len(history))
        save_figure(figure, file)
        plt.close(figure)
    caption = (
        'Scores in the loss, trained on from one checkpoint: mean of the positives, and mean (solid) and one standard '
        'deviation (dashed) of the negatives. Running means over 15 steps.'
    )
    return Figure(file, caption)


OWN_MODEL = """
In the config of a MoCo of mmpretrain, change the type and add one key; train your own MoCo as a control:

```python
_base_ = 'mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py'

model = dict(type='reprefine.MoCoFT', feature_transform=dict(pos=dict(alpha=2.0), neg=dict(alpha=1.6)))
custom_hooks = [dict(type='reprefine.ScoreStatsHook')]  # records the scores of every step
custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
```
"""

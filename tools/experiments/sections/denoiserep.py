"""Section of the tour on DenoiseRep: noise in the layers of a ViT, and the step that is chosen against it."""

from pathlib import Path

import torch
from denoiserep_models import PixelNet, make_network, moments_over
from denoiserep_selected import PUBLISHED, SCALED, SELECTED, TIMESTEPS, Measured
from digit_images import load_images
from matplotlib import pyplot as plt
from records import Record, read_record
from runner import ROOT
from shipped import shipped_weights
from torch import Tensor

from reprefine.methods.denoiserep import convert, denoise_layers, reparameterize, select_step, set_layer_steps
from reprefine.methods.denoiserep.conversion.timesteps import assign_timesteps
from reprefine.visualization.figures import FIGURE_STYLE, save_figure
from reprefine.visualization.results import markdown_table, paired_difference
from sections.section import Figure, Progress, Section

TITLE = 'DenoiseRep: a denoising step in the weights'
SECONDS = 30
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # standard deviation on the inputs of the MLP layers
CHECKPOINT = 'vit_digits'
METHODS = ('without denoising', 'published step', 'step chosen on validation images')
OWN_MODEL = """Convert, run the model once over unlabelled images, choose the step, merge it:

```python
from reprefine.methods.denoiserep import collect_moments, convert, reparameterize, select_step

convert(model, include='mlp', step='selected')
with torch.no_grad(), collect_moments(model.eval()) as moments:
    for images in loader:
        model(images)
select_step(model, moments, lambda: accuracy(model, validation), timesteps=[100, 300, 500, 999])
deployed = reparameterize(model)  # the layers, parameters and cost of the original model
```

In an OpenMMLab config: `configs/denoiserep/classification/vit-tiny_denoiserep-selected_digits.py`."""


def trained_network() -> PixelNet:
    """Return the shipped ViT of the digits."""
    model = make_network('vit', 'digits', 0)
    model.network.load_state_dict(shipped_weights(CHECKPOINT))
    return model.eval()


@torch.no_grad()
def measure(levels: tuple[float, ...], progress: Progress) -> tuple[dict[float, list[float]], dict[float, str], float]:
    """Return test accuracies by noise level and method, the choices, and the largest difference after the merge."""
    images, validation, test = (load_images('digits', split) for split in ('train', 'val', 'test'))
    base, model = trained_network(), trained_network()
    convert(model.network, 'mlp', step='selected')
    moments = moments_over(model, images)
    names = list(denoise_layers(model.network))
    published = assign_timesteps(names, 'descending', 1000)
    found, choices, difference = {}, {}, 0.0
    for number, level in enumerate(levels):
        tested, chosen_on = Measured(test, 1, level), Measured(validation, 0, level)
        set_layer_steps(model.network, moments, published)
        found[level] = [tested.accuracy(base, names), tested.accuracy(model, names)]
        chosen, *_ = select_step(
            model.network, moments, lambda on=chosen_on: on.accuracy(model, names), TIMESTEPS, layers=('all', 'first')
        )
        found[level].append(tested.accuracy(model, names))
        choices[level] = str(chosen)
        merged = PixelNet(reparameterize(model.network), model.mean, model.std, flat=False)
        difference = max(difference, _difference(merged(test.pixels), model(test.pixels)))
        progress((number + 1) / len(levels))
    return found, choices, difference


def _difference(first: Tensor, second: Tensor) -> float:
    return ((first - second).abs().max() / second.abs().max()).item()


def plot(found: dict[float, list[float]], file: Path) -> None:
    """Plot the accuracies over the noise level."""
    with plt.rc_context(FIGURE_STYLE | {'font.size': 13, 'axes.labelsize': 13}):
        figure, axis = plt.subplots(figsize=(5.2, 4.4), layout='constrained')
        for index, (label, line, marker) in enumerate(zip(METHODS, ('-', ':', '-'), ('o', 'x', 's'), strict=True)):
            values = [accuracies[index] for accuracies in found.values()]
            axis.plot(list(found), values, line, marker=marker, linewidth=2.5, markersize=8, label=label)
        axis.set(xlabel='noise on the inputs of MLP layers (std.)', ylabel='test accuracy (%)')
        axis.set_xticks(list(found))
        axis.legend(loc='lower left')
        save_figure(figure, file)
        plt.close(figure)


def run(folder: Path, progress: Progress, levels: tuple[float, ...] = LEVELS) -> Section:
    """Measure and plot."""
    found, choices, difference = measure(levels, progress)
    plot(found, folder / 'accuracy.png')
    rows = [(f'{level:.2f}', *(f'{value:.1f}' for value in found[level]), choices[level]) for level in found]
    table = markdown_table(('noise', *(f'{name} (%)' for name in METHODS), 'chosen'), rows)
    return Section(
        what='DenoiseRep treats the input of a layer as a noisy state of a diffusion process: a linear map predicts '
        'the noise, and one denoising step is merged into the weights, so that network and cost stay the same. Here '
        'the inputs of the six MLP layers of a ViT get noise, as on analogue hardware. One pass over clean, unlabelled '
        'digits gives means and covariances, from which every such map follows in closed form. Strength, step and '
        'layers are chosen on validation images with the same noise; "none" is always a candidate. The published step '
        'hardly changes the features; the stronger ones remove noise.',
        number=f'{table}\n\nMerged and unmerged logits differ by {difference:.0e} (relative, largest).',
        figures=(Figure(folder / 'accuracy.png', 'Accuracy on 355 test images by the noise in the network.'),),
        limits=_limits(),
        experiment='python tools/experiments/denoiserep_selected.py',
        minutes=max(round(_record().minutes / 2), 1),
        own_model=OWN_MODEL,
    )


def _record() -> Record:
    return read_record(ROOT / 'configs/denoiserep/results/selected.json')


def _limits() -> str:
    """Return what the record of the full experiment says: the chosen step, beside a factor chosen in the same way."""
    record = _record()

    def difference(images: str, method: str) -> str:
        row = record.row(f'{images}: {method}')
        return paired_difference(row.values['digits'], record.row(row.control).values['digits'], 1)

    kinds = ('noise 1.0 in the layers', 'clean', 'noise', 'blur', 'low contrast')
    rows = [(kind, *(difference(kind, method) for method in (PUBLISHED, SELECTED, SCALED))) for kind in kinds]
    table = markdown_table(('images', 'published step', 'step chosen', 'factor chosen'), rows)
    return (
        f'Points over the baseline with {len(record.seeds)} networks, beside a mere factor on the same weights that is '
        'chosen on the same validation images. The first row is noise in the layers, the others are images:\n\n'
        f'{table}\n\nWhere the factor gives as much, the gain is not one of denoising.'
    )

"""Section of the tour: a PD-A network in both forms, and the gates of PD-B on digits of random polarity."""

from pathlib import Path
from statistics import mean

import numpy as np
import torch
from matplotlib import pyplot as plt
from pddr_digits import accuracy, digits
from pddr_polarity import BOTH, CONSTANT, PDB, PLAIN, measure, signed_digits, train, with_gates_of_inverted
from records import ROOT, Record, read_record
from tables import row_difference
from torch import nn

from reprefine.methods.pddr import BRANCHES
from reprefine.visualization.figures import COLORS, FIGURE_STYLE, save_figure

from .pddr_forms import compare_forms
from .section import Figure, Progress, Section

TITLE = 'PDDR: branches in training, one convolution afterwards'
SECONDS = 20
RESULTS = ROOT / 'configs/pddr/results'
WHAT = """
PDDR trains each 3x3 convolution as four parallel branches (two dense, one of strips, one grouped), each with its own
batch norm. **PD-A** adds the branches. Afterwards they are *one* convolution: the table shows a ResNet with {layers}
such layers, trained on 3,000 MNIST digits for two epochs, before and after. **PD-B** weights the branches by a small
gate that reads the image. The figure shows a linear network, one convolution and a classifier, that learned digits
which are inverted (black on white) with probability 1/2. It needs a kernel of the other sign for inverted images, and
only the gate can choose one.
"""
LIMITS = """
In linear layers PD-A gains nothing that plain ones cannot have. In the authors' fully connected demonstration it gains
{pda} points over plain in 5 epochs, but plain with twice the learning rate gains {rate}, and plain that also starts
from the sum of two draws is exactly PD-A. After 50 epochs the difference to plain is {long} points. The gates of PD-B
do what they should (five seeds: {linear} points over equal gates), but they are not needed where a nonlinearity does
the same: with a ReLU after the convolution they gain {relu} points, where twice the feature maps gain {wide} over
plain.
"""
OWN_MODEL = """
```python
import timm
from reprefine.methods.pddr import convert_to_pd

model = timm.create_model('resnet18', pretrained=True)
convert_to_pd(model, mode='A')  # or 'B'; the output is unchanged
...  # train
for module in model.modules():
    if hasattr(module, 'switch_to_deploy'):
        module.switch_to_deploy()
```
"""


def run(folder: Path, progress: Progress, images: int = 1000, rounds: int = 15, epochs: int = 10) -> Section:
    """Compute the section.

    Args:
        folder: Folder of the figure.
        progress: Called with the finished fraction.
        images: Number of test images of the PD-A network.
        rounds: Rounds of the latency measurement.
        epochs: Epochs of the networks on digits of random polarity.
    """
    data, labels = digits('test')
    forms, layers = compare_forms((data[:images], labels[:images]), rounds)
    progress(0.4)
    networks, record = {}, read_record(RESULTS / 'gates_linear.json')
    for number, setting in enumerate((PLAIN, CONSTANT, PDB), 1):
        rate = record.notes['learning_rates'][setting.label]['random']
        networks[setting] = train(setting, random_polarity=True, rate=rate, seed=0, epochs=epochs, linear=True)
        progress(0.4 + number * 0.18)
    scores = polarity_scores(networks)
    listed = ', '.join(f'{name} {score:.1f} %' for name, score in scores.items())
    figure = plot_gates(networks[PDB], scores, folder / 'gates.png')
    return Section(
        what=WHAT.format(layers=layers),
        number=f'{forms}\n\nDigits of random polarity, test accuracy: {listed}.',
        figures=(figure,),
        limits=limits(),
        experiment='python tools/experiments/pddr_gates.py',
        minutes=round(record.minutes / 2),
        own_model=OWN_MODEL,
    )


def polarity_scores(networks: dict) -> dict[str, float]:
    """Return the test accuracy in percent by name, both polarities of each image."""
    scores = {
        'plain': measure(networks[PLAIN], True, 'test'),
        'PD-B, gates equal for all images': measure(networks[CONSTANT], True, 'test'),
        'PD-B': measure(networks[PDB], True, 'test'),
    }
    images, labels = signed_digits('test')
    swapped = mean(accuracy(lambda x: with_gates_of_inverted(networks[PDB], x), sign * images, labels) for sign in BOTH)
    return scores | {'PD-B, gates of the inverted image': swapped}


@torch.no_grad()
def plot_gates(net: nn.Sequential, scores: dict[str, float], file: Path) -> Figure:
    """Plot the gates of both polarities, and the accuracies."""
    images = signed_digits('test')[0]
    positions = np.arange(len(BRANCHES))
    with plt.rc_context(FIGURE_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(6.2, 3.4), layout='constrained')
        for number, (name, sign) in enumerate((('as scanned', 1), ('inverted', -1))):
            gates = net[0].gate(sign * images)
            error = gates.std(0)
            left.bar(positions + 0.4 * number - 0.2, gates.mean(0), 0.4, yerr=error, color=COLORS[number], label=name)
        left.set_xticks(positions, ['dense 1', 'dense 2', 'strips', 'grouped'], rotation=35)
        left.set(ylim=(0, 1.35), yticks=(0, 0.5, 1), ylabel='gate (share of the branch)', title='Gates of PD-B')
        left.legend(loc='upper left', ncols=1)
        names = ['plain', 'PD-B,\nequal gates', 'PD-B', 'PD-B,\nswapped\ngates']
        right.barh(names[::-1], list(scores.values())[::-1], color=[COLORS[6], COLORS[2], COLORS[3], COLORS[0]])
        for position, value in enumerate(reversed(scores.values())):
            right.text(value + 2, position, f'{value:.1f}', va='center')
        right.set(xlim=(0, 125), xticks=(0, 50, 100), xlabel='test accuracy (%)', title='Random polarity')
        save_figure(figure, file)
        plt.close(figure)
    caption = (
        'Left: gates on 1,000 test digits as scanned (white on black) and inverted, mean and standard deviation. '
        'Right: test accuracy on both polarities; chance is 10 %.'
    )
    return Figure(file, caption)


def limits() -> str:
    """Return what the records of the full experiments say."""
    steps, linear, relu = (read_record(RESULTS / f'{n}.json') for n in ('mlp_step_size', 'gates_linear', 'gates_relu'))

    def gain(record: Record, row: str, metric: str) -> str:
        return row_difference(record, record.row(row), metric)

    return LIMITS.format(
        pda=gain(steps, 'PD-A', 'short_accuracy'),
        rate=gain(steps, 'plain, twice the rate', 'short_accuracy'),
        long=gain(steps, 'PD-A', 'long_accuracy'),
        linear=linear.notes['gates_random'],
        relu=relu.notes['gates_random'],
        wide=gain(relu, 'plain, twice the feature maps', 'random'),
    )

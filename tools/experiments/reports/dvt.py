"""Record of the end-to-end experiment of DVT, the choice of the denoiser's iterations, and images of the denoiser."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from records import ROOT, Metric, Record, Row, environment, save_record
from tables import record_table
from torch import Tensor

from reprefine.engine.data_checks.images import read_image
from reprefine.methods.dvt import FeatureDenoiser, FeatureLoss, FeaturePairs
from reprefine.methods.dvt.denoiser.checkpoint import load_denoiser
from reprefine.methods.dvt.visualization.denoiser_plot import Prediction, denoiser_strip
from reprefine.visualization.images import write_png
from reprefine.visualization.results import read_scalars, seconds_of_training

RESULTS = ROOT / 'configs/dvt/results'
METRICS = dict(mIoU=Metric('mIoU'), aAcc=Metric('pixel accuracy'))
ROWS = {
    'raw': 'raw features',
    'dvt': 'denoiser',
    'control': 'same network, trained to give raw features',
    'patterned-raw': 'known pattern: raw features',
    'patterned-dvt': 'known pattern: denoiser',
    'patterned-control': 'known pattern: same network, trained to give raw features',
}
CONTROLS = {name: 'patterned-raw' if name.startswith('patterned') else 'raw' for name in ROWS if 'raw' not in name}
# A longer training must lower the loss by this much to be chosen.
GAIN = 0.01


def choose_iterations(folder: Path, iterations: Sequence[int]) -> tuple[dict[int, float], int]:
    """Return the loss on validation scenes by iterations, and the fewest iterations after which it stops falling.

    Args:
        folder: Folder of a run, with the denoisers trained for all numbers of iterations.
        iterations: The numbers, ascending.
    """
    pairs = stored_pairs(folder / 'validation')
    losses = {count: validation_loss(folder / f'dvt_{count}/iter_{count}.pth', *pairs) for count in iterations}
    return losses, stops_falling(losses)


def stops_falling(losses: dict[int, float]) -> int:
    """Return the first key after which the next does not lower the loss by ``GAIN``, or the last.

    Args:
        losses: Loss by ascending number of iterations.
    """
    counts = list(losses)
    for count, longer in zip(counts, counts[1:], strict=False):
        if losses[longer] > (1 - GAIN) * losses[count]:
            return count
    return counts[-1]


def stored_pairs(folder: Path) -> tuple[Tensor, Tensor]:
    """Return raw and denoised features of all images of a folder, each ``[N, rows, columns, C]``."""
    pairs = FeaturePairs(folder, min(folder.glob('*.json')).stem)
    raw, denoised = ([torch.from_numpy(read(name)) for name in pairs.names] for read in (pairs.raw, pairs.denoised))
    return torch.stack(raw), torch.stack(denoised)


def predict(checkpoint: Path, raw: Tensor) -> Tensor:
    """Return the output of a denoiser for raw features ``[N, rows, columns, C]``."""
    model = FeatureDenoiser(raw.shape[-1], grid=raw.shape[1], num_heads=3)
    load_denoiser(model, str(checkpoint))
    with torch.no_grad():
        return model.eval()(raw.movedim(-1, 1)).movedim(1, -1)


def validation_loss(checkpoint: Path, raw: Tensor, target: Tensor) -> float:
    """Return the loss of a denoiser on features that it was not trained on."""
    maps = (values.movedim(-1, 1) for values in (predict(checkpoint, raw), target))
    return sum(FeatureLoss()(*maps).values()).item()


def write_record(out: Path, runs: int, vits: int, notes: dict) -> str:
    """Write the record and images of the denoiser, and return the table.

    Args:
        out: Folder of the experiment.
        runs: Number of runs.
        vits: Number of ViTs.
        notes: Further notes of the record.
    """
    rows = []
    for name, label in ROWS.items():
        tests = [json.loads((out / f'run{run}/probe_{name}/test.json').read_text()) for run in range(runs)]
        control = ROWS.get(CONTROLS.get(name, ''))
        rows.append(Row(label, {key: [test[key] for test in tests] for key in METRICS}, control))
    record = Record(
        title='Linear segmentation with and without the denoiser',
        kind='end to end',
        data='scenes of digits, 2,000 for training, 64 of them for the denoiser, 200 for the test',
        seeds=list(range(runs)),
        metrics=METRICS,
        rows=rows,
        minutes=round(training_minutes(out), 1),
        threads=1,
        notes=dict(vits=vits, **notes),
        **environment(),
    )
    save_record(RESULTS / 'end_to_end.json', record)
    write_png(_draw_denoiser(out, notes['iterations']), out / 'denoiser.png')
    return record_table(record)


def training_minutes(out: Path) -> float:
    """Return the minutes of all trainings of an experiment together."""
    folders = {file.parents[2] for file in out.glob('*/*/*/vis_data/scalars.json')}
    return sum(seconds_of_training(read_scalars(folder)) for folder in folders) / 60


def _draw_denoiser(out: Path, iterations: int) -> object:
    raw, target = (maps[:3] for maps in stored_pairs(out / 'run0/features'))
    predicted = predict(out / f'run0/dvt_{iterations}/iter_{iterations}.pth', raw)
    images = [read_image(file) for file in sorted((out / 'scenes/images/training').glob('*.jpg'))[:3]]
    maps = zip(images, raw, target, predicted, strict=True)
    return denoiser_strip([Prediction(image, *(x.numpy() for x in features)) for image, *features in maps])

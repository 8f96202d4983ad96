"""Section of the tour: features of a small ViT before and after DVT, and what a linear probe gains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from dvt_parts.compared_probes import CONTROL, DVT, RAW
from dvt_parts.scenes import Scenes, draw_scenes, read_scenes
from dvt_parts.stage1 import denoise_views, extract_views, known_pattern, stage1_config, whole_features
from dvt_parts.stage2 import denoise_features, evaluate_probe, train_denoiser, train_probe
from matplotlib import pyplot as plt
from records import ROOT, Record, read_record
from tables import row_difference
from torch import Tensor

from reprefine.methods.dvt import Stage1
from reprefine.methods.dvt.visualization.plot import fit_pca, pca_tile
from reprefine.methods.dvt.visualization.position_metrics import fixed_fraction
from reprefine.visualization.figures import FIGURE_STYLE, save_figure
from reprefine.visualization.results import markdown_table

from .section import Figure, Progress, Section

TITLE = 'DVT: clean features of a ViT'
SECONDS = 55
MINUTES = 25  # of the full experiment
RECORD = ROOT / 'configs/dvt/results/pattern.json'
VIEWS = 32
WHAT = """
Patch features of a ViT hold a pattern that depends on where a patch is, not on what it shows. Stage 1 of DVT looks at
one image through {views} random crops: what moves with the image is content, what stays at its position is the pattern.
It was computed for {images} scenes of real digits. Stage 2 trained one transformer block to give the clean features of
any image. The ViT (0.7 million parameters, a masked auto-encoder, shipped) is not trained. In the last two rows of the
table, a fixed random pattern was added to its features: then the right answer is known. The test scenes were not used
in training.
"""
CAPTION = """Principal components of the features of a test scene as colors. Below, left: the ViT, alone and with the
known pattern; right: after the denoiser."""
LIMITS = """
The table has one seed, and most of the gain is that of the added pattern: the features of this ViT are fixed to a large
part, but a linear probe hardly suffers from it. None of this is a benchmark of the paper. {repeated}
"""
REPEATED = """
Over {seeds} seeds the denoiser changed the mIoU by {natural} on the unchanged ViT, and with the known pattern by
{pattern} of the {cost} that the pattern costs; the same network trained to give the raw features changed it by
{control}.
"""
NOT_REPEATED = 'The repetitions with other views, denoisers and probes have no record in this version.'
OWN_MODEL = """
```bash
python tools/denoise_images.py configs/dvt/stage1/vit-b-dinov2_denoise-closed-form_768views.py --data-root IMAGES
python tools/train.py configs/dvt/denoiser/vit-b-dinov2_denoiser-closed-form_8xb8-100k_voc10k.py
```

Any ViT of timm: `--cfg-options backbone.model_name=NAME`. In a segmentation model the denoiser is the neck:
`model = dict(neck=dict(type='reprefine.DVTDenoiser', in_channels=768, grid=37, checkpoint='denoiser.pth'))`.
"""


def run(folder: Path, progress: Progress, images: int = 16, train: int = 160, iterations: int | None = None) -> Section:
    """Compute the section.

    Args:
        folder: Folder of the figure.
        progress: Called with the finished fraction.
        images: Number of scenes of stage 1 and 2.
        train: Number of scenes of the linear probe.
        iterations: Iterations of the denoisers; None for those of the config.
    """
    draw_scenes(folder / 'scenes', train, 100, seed=2)
    scenes = [read_scenes(folder / 'scenes', split) for split in ('training', 'validation')]
    progress(0.1)
    rows, tiles = [], []
    stage1 = Stage1(replace(stage1_config(), num_views=VIEWS))
    raw = [whole_features(stage1, split.images) for split in scenes]
    names = [''] * images
    views = extract_views(stage1, scenes[0].images[:images], names)
    for part, (title, scale) in enumerate((('the ViT', 0.0), ('with a known pattern', 1.0))):
        pattern = known_pattern(scale)
        target = denoise_views(stage1, views.first(VIEWS, pattern), names)[0]
        before = [features + pattern for features in raw]
        denoiser = train_denoiser(before[0][:images], target, 0, iterations)
        after = [denoise_features(denoiser, features) for features in before]
        for name, features in ((title, before), (f'{title}, denoised', after)):
            rows.append(_row(name, features, scenes))
            tiles.append((name, features[1][0]))
        progress(0.55 + 0.45 * part)
    shown = scenes[1].images[:1]
    clean = denoise_views(stage1, extract_views(stage1, shown, ['']), [''])[0][0]
    figure = _draw(folder / 'features.png', shown[0], [('stage 1 of it', clean), *tiles])
    header = ['features', 'mIoU of a linear probe', 'variance that is equal in all images']
    what = WHAT.format(views=VIEWS, images=images)
    experiment = 'python tools/experiments/dvt_mechanism.py --seeds 5'
    limits = limits_of(read_record(RECORD) if RECORD.is_file() else None)
    return Section(what, markdown_table(header, rows), (figure,), limits, experiment, MINUTES, OWN_MODEL)


def limits_of(record: Record | None) -> str:
    """Return the limits, with what the record of the full experiment says if there is one."""
    if record is None:
        return LIMITS.format(repeated=NOT_REPEATED)
    natural, pattern = 'no pattern', 'known pattern'
    raw = [np.mean(record.row(f'{kind}: {RAW}').values['mIoU']) for kind in (natural, pattern)]
    rows = dict(natural=f'{natural}: {DVT}', pattern=f'{pattern}: {DVT}', control=f'{pattern}: {CONTROL}')
    changes = {key: row_difference(record, record.row(name), 'mIoU') for key, name in rows.items()}
    text = REPEATED.format(cost=f'{raw[0] - raw[1]:.2f}', seeds=len(record.seeds), **changes)
    return LIMITS.format(repeated=' '.join(text.split()))


def _row(name: str, features: list[Tensor], scenes: list[Scenes]) -> list[str]:
    """Return the row of the table, with a probe trained on the first features and evaluated on the others."""
    probe = train_probe(features[0], scenes[0].small_labels(), 0)
    mean_iou = evaluate_probe(probe, features[1], scenes[1])['mIoU']
    return [name, f'{mean_iou:.1f}', f'{100 * fixed_fraction(features[1]):.0f} %']


def _draw(file: Path, image: np.ndarray, tiles: list[tuple[str, Tensor]]) -> Figure:
    """Draw the scene above pairs of features before and after."""
    with plt.rc_context({**FIGURE_STYLE, 'axes.titlesize': 13}):
        figure, axes = plt.subplots(3, 2, figsize=(5.2, 7.2), layout='constrained')
        axes[0, 0].imshow(image, aspect='auto')
        axes[0, 0].set_title('test scene')
        for axis, (title, features) in zip(axes.flat[1:], tiles, strict=True):
            axis.imshow(pca_tile(features.numpy(), (240, 320), fit_pca(features.numpy())))
            axis.set_title(title.replace(', denoised', ',\ndenoised').replace('known pattern', 'known\npattern', 1))
        for axis in axes.flat:
            axis.axis('off')
        save_figure(figure, file)
        plt.close(figure)
    return Figure(file, ' '.join(CAPTION.split()))

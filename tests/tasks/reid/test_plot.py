import cv2
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from reprefine.engine.errors import UserError
from reprefine.tasks.reid.functional import Tags
from reprefine.tasks.reid.plot import CORRECT, QUERY, WRONG, plot_ranking
from reprefine.tasks.reid.predictions import Predictions

# Feature, identity, camera and grey level; the first three are queries. The second query has no match.
IMAGES = [
    ((1, 0), 1, 0, 10),
    ((0, 1), 9, 0, 20),
    ((3, 4), 2, 0, 30),
    ((1, 0.0), 1, 0, 100),  # identity and camera of the first query: excluded
    ((1, 0.1), 1, 1, 120),
    ((1, 0.2), 2, 1, 140),
    ((0, 5.0), 3, 1, 160),
]


@pytest.fixture
def predictions(tmp_path):
    features, pids, cameras, greys = zip(*IMAGES, strict=True)
    paths = [str(tmp_path / f'{grey}.png') for grey in greys]
    for grey, path in zip(greys, paths, strict=True):
        Image.fromarray(np.full((40, 20, 3), grey, np.uint8)).save(path)
    tags = Tags(np.array(pids), np.array(cameras))
    return Predictions(torch.tensor(features), tags, np.arange(7) < 3, np.array(paths))


def cells(file, rows, columns):
    """Grey level in the middle of each image and the colour of its frame, None where nothing is drawn."""
    image = cv2.imread(str(file))[..., ::-1]
    frames = {name: np.rint(255 * np.array(to_rgb(name))) for name in (CORRECT, QUERY, WRONG)}
    near = {name: (np.abs(image - colour).max(2) <= 2).astype(np.uint8) for name, colour in frames.items()}
    found = []
    for name, mask in near.items():
        for x, y, width, height, area in cv2.connectedComponentsWithStats(mask)[2][1:]:
            if width > 30 and height > 60 and area > 300:
                found.append((y + height // 2, x + width // 2, name))
    assert len(found) <= rows * columns
    result = {}
    for y, x, name in found:
        row = int(y * rows / image.shape[0])
        result.setdefault(row, []).append((x, int(image[y, x, 0]), name))
    return [[(grey, name) for _, grey, name in sorted(result[row])] for row in sorted(result)]


def test_a_truncated_image_is_named(predictions, tmp_path):
    cut = tmp_path / 'cut.jpg'
    Image.effect_noise((64, 128), 80).save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    predictions.img_path[4] = str(cut)
    with pytest.raises(UserError, match=f'image {cut} cannot be read: the file is truncated'):
        plot_ranking(predictions, tmp_path / 'ranking.png', topk=4)


def test_frames_and_order(predictions, tmp_path):
    out = tmp_path / 'new' / 'ranking.png'
    # Features are normalised: for (3, 4) the nearest direction is (0, 1), then (1, 0.2), (1, 0.1), (1, 0).
    assert plot_ranking(predictions, out, topk=4) == [True, False]
    assert cells(out, 2, 5) == [
        [(10, QUERY), (120, CORRECT), (140, WRONG), (160, WRONG)],
        [(30, QUERY), (160, WRONG), (140, CORRECT), (120, WRONG), (100, WRONG)],
    ]


def test_topk_and_number_of_queries(predictions, tmp_path):
    assert plot_ranking(predictions, tmp_path / 'a.png', topk=1, num=1) == [True]
    assert cells(tmp_path / 'a.png', 1, 2) == [[(10, QUERY), (120, CORRECT)]]


def test_queries_without_a_match_are_refused(predictions, tmp_path):
    alone = Predictions(
        predictions.feature, Tags(np.arange(7), np.zeros(7, int)), predictions.is_query, predictions.img_path
    )
    with pytest.raises(UserError, match='no query has a match from another camera'):
        plot_ranking(alone, tmp_path / 'a.png')
    assert not (tmp_path / 'a.png').exists()

"""What is drawn of the views of an image."""

import numpy as np
import torch

from reprefine.methods.dvt import Stage1
from reprefine.methods.dvt.stage1.views import render_view
from reprefine.methods.dvt.visualization.panels import explained_views, shown_image

from ..stage1.test_pipeline import watched


def test_each_view_is_shown_with_what_was_found_at_its_own_tokens(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    stage1, solutions, solve = watched(), [], Stage1.solve
    monkeypatch.setattr(Stage1, 'solve', lambda *arguments: solutions.append(solve(*arguments)) or solutions[-1])
    shown = explained_views(stage1, image, 'a.jpg', count=4)
    ((solution,),) = solutions
    prepared, views = stage1.prepare(image), stage1.views('a.jpg')
    features = stage1.features(prepared, views)
    pictures = [shown_image(render_view(prepared, box), [120.0] * 3, [60.0] * 3) for box in views.boxes]
    numbers = []
    for view in shown:
        (number,) = (index for index, picture in enumerate(pictures) if np.array_equal(picture, view['image']))
        numbers.append(number)
        for name, values in stage1.maps(solution, features[number], views.coords[number]).items():
            assert np.array_equal(view[name], values.numpy()), (number, name)
    assert len(set(numbers)) == 5
    assert numbers[-1] == 6
    assert np.abs(pictures[6].astype(int) - image_of_size(image, (38, 50))).mean() < 1
    again = explained_views(stage1, image, 'b.jpg', count=4)
    assert not all(np.array_equal(one['image'], other['image']) for one, other in zip(shown, again, strict=True))


def image_of_size(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = torch.from_numpy(image).movedim(-1, 0)[None].float()
    resized = torch.nn.functional.interpolate(values, size, mode='bicubic', antialias=True)
    return resized[0].movedim(0, -1).clamp(0, 255).round().numpy()

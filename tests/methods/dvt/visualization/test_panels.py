"""Images and components of the views of an image."""

import numpy as np
import torch

from reprefine.methods.dvt.stage1.solvers.closed_form import ClosedFormSolver
from reprefine.methods.dvt.stage1.views import render_view
from reprefine.methods.dvt.visualization.panels import decompose_views, denormalize

from ..stage1.test_pipeline import small_stage1


def test_each_view_has_the_components_at_its_own_tokens(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    stage1, solutions, solve = small_stage1(), [], ClosedFormSolver.solve
    monkeypatch.setattr(
        ClosedFormSolver, 'solve', lambda *arguments: solutions.append(solve(*arguments)) or solutions[-1]
    )
    decomposed = decompose_views(stage1, image, 'a.jpg', count=4)
    ((solution,),) = solutions
    features, views = stage1.extract(image, 'a.jpg')
    prepared = stage1.extractor.prepare(image)
    rendered = [denormalize(render_view(prepared, box), [120.0] * 3, [60.0] * 3) for box in views.boxes]
    numbers = []
    for view in decomposed:
        (number,) = (index for index, one in enumerate(rendered) if np.array_equal(one, view['image']))
        numbers.append(number)
        for name, values in solution.components(features[number], views.coords[number]).items():
            assert np.array_equal(view[name], values.numpy()), (number, name)
    assert len(set(numbers)) == 5
    assert numbers[-1] == 6
    assert np.abs(rendered[6].astype(int) - resized(image, (38, 50))).mean() < 1
    again = decompose_views(stage1, image, 'b.jpg', count=4)
    assert not all(np.array_equal(one['image'], other['image']) for one, other in zip(decomposed, again, strict=True))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    values = torch.from_numpy(image).movedim(-1, 0)[None].float()
    resized = torch.nn.functional.interpolate(values, size, mode='bicubic', antialias=True)
    return resized[0].movedim(0, -1).clamp(0, 255).round().numpy()

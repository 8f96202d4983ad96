"""The tour: sections, shipped checkpoints, and the report."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from matplotlib import pyplot as plt

from reprefine.engine.errors import UserError
from tests.helpers.run_tool import TOOLS, import_beside

tour = import_beside('experiments/tour.py', 'tour')
page = import_beside('experiments/tour.py', 'report_page')
shipped = import_beside('experiments/tour.py', 'shipped')
section = import_beside('experiments/tour.py', 'sections.section')


def example(folder, progress):
    folder.mkdir(exist_ok=True)
    plt.imsave(folder / 'a.png', torch.rand(4, 4).numpy())
    progress(0.5)
    return section.Section(
        what='Features **before** and after.',
        number='| a | b |\n|---|---|\n| 1 | 2 |',
        figures=(section.Figure(folder / 'a.png', 'Noise & <more>.'),),
        limits='It did not help.',
        experiment='python x.py',
        minutes=12,
        own_model='```python\nx < 1\n```',
    )


def test_the_report_is_one_page_that_holds_its_figures(tmp_path):
    sections = {'Example: it works': example(tmp_path / 'x', lambda fraction: None)}
    page.write_report(sections, tmp_path, 'Computed in 1 minute.')
    text, html = ((tmp_path / f'report.{suffix}').read_text() for suffix in ('md', 'html'))
    assert '![Noise & <more>.](x/a.png)' in text and 'about 12 minutes' in text
    assert 'src="data:image/png;base64,' in html and not re.search(r'(src|href)="(?!data:|#)', html)
    assert '<td>2</td>' in html and 'x &lt; 1' in html and 'Noise &amp; &lt;more&gt;.' in html
    assert re.search('href="#(.*?)"', html)[1] == re.search('<h2 id="(.*?)"', html)[1] == 'example-it-works'


def test_sections_are_shown_in_order_with_name_and_time_left(tmp_path, capfd):
    modules = {name: SimpleNamespace(TITLE=name.upper(), SECONDS=2, run=example) for name in ('a', 'b')}
    assert list(tour.show(modules, tmp_path)) == ['A', 'B']
    assert re.search(r'2/2 B: +75% \[.* left\]', capfd.readouterr().err)


def test_shipped_checkpoints_are_small_and_intact():
    listed = json.loads(shipped.LIST.read_text())
    assert {file.stem for file in shipped.FOLDER.glob('*.safetensors')} == set(listed)
    for name, entry in listed.items():
        file = shipped.shipped_file(name)
        assert file.stat().st_size == entry['bytes'] <= shipped.MAX_BYTES
        assert (TOOLS.parent / entry['command'].split()[1]).is_file(), name
        assert re.fullmatch('[0-9a-f]{7,}', entry['commit']), name


def test_a_checkpoint_is_shipped_with_checksum_and_refused_when_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, 'FOLDER', tmp_path)
    monkeypatch.setattr(shipped, 'LIST', tmp_path / 'checkpoints.json')
    weights = dict(a=torch.rand(3, 2), b=torch.arange(3))
    file = shipped.ship(weights, 'x', 'python train.py', half=True)
    read = shipped.shipped_weights('x')
    assert read['a'].dtype == torch.float32 and torch.equal(read['a'], weights['a'].half().float())
    assert torch.equal(read['b'], weights['b'])
    file.write_bytes(file.read_bytes()[:-1] + b'?')
    with pytest.raises(UserError, match='SHA-256 differs'):
        shipped.shipped_weights('x')
    with pytest.raises(UserError, match='y.safetensors is missing'):
        shipped.shipped_weights('y')
    with pytest.raises(UserError, match='more than the 4000000'):
        shipped.ship(dict(a=torch.rand(1_100_000)), 'z', 'python train.py')


def test_make_demo_runs_the_tour():
    recipe = (TOOLS.parent / 'Makefile').read_text().split('\ndemo:')[1].partition('\n\n')[0]
    assert 'tools/experiments/tour.py $(if $(ONLY),--only $(ONLY))' in recipe

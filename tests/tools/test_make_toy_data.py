import re

import pytest
from toy_data import SETS

from tests.helpers.run_tool import run_tool

TOOL = 'dataset_tools/make_toy_data.py'


def test_a_line_a_set(tmp_path, capsys):
    out = tmp_path / 'toy'
    assert run_tool(TOOL, '--out', out, '--only', 'coco', 'cifar10') == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if str(out) in line]
    assert [re.sub(r'[\d.]+ MB', 'N MB', line) for line in lines] == [
        f'{out}/cifar10: 7 files, N MB',
        f'{out}/coco: 83 files, N MB',
    ]
    megabytes = sum(path.stat().st_size for path in (out / 'coco').rglob('*.*') if path.is_file()) / 1e6
    assert lines[1].endswith(f' {megabytes:.1f} MB')


def test_unknown_set_is_one_line(tmp_path, capsys):
    assert run_tool(TOOL, '--out', tmp_path / 'toy', '--only', 'cocoa') == 1
    error = capsys.readouterr().err.strip()
    assert re.search(r'error: unknown toy data cocoa; choose from cifar10, imagenet, .*, wflw$', error)
    assert '\n' not in error
    assert not (tmp_path / 'toy').exists()


def test_foreign_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / 'thesis.tex').write_text('mine')
    assert run_tool(TOOL, '--out', tmp_path) == 1
    assert 'was not made by this tool' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_help_names_every_set(capsys):
    with pytest.raises(SystemExit):
        run_tool(TOOL, '--help')
    text = capsys.readouterr().out
    assert ','.join(SETS) in ''.join(text.split())
    assert 'make_toy_data.py --out data/toy --only coco cifar10' in text

"""Preparing CelebAMask-HQ from the command line."""

from tests.helpers.run_tool import run_tool
from tests.tasks.face_parsing.raw_faces import write_raw

TOOL = 'dataset_tools/prepare_celebamask_hq.py'


def test_prepares_and_checks(tmp_path, capsys):
    root = write_raw(tmp_path / 'faces')
    assert run_tool(TOOL, root, '--allow-partial', '--workers', 2) == 0
    lines = capsys.readouterr().out.replace('\n', ' ')
    for split, count in (('train', 2), ('val', 2), ('test', 1)):
        assert f'{root}/{split}_celebahqmask.txt: {count} faces' in lines
    assert len(list((root / 'mask').glob('*.png'))) == 5
    assert run_tool(TOOL, root, '--allow-partial', '--workers', 1, '--check') == 0
    (root / 'mask/1.png').unlink()
    assert run_tool(TOOL, root, '--allow-partial', '--workers', 1, '--check') == 1
    assert 'missing or wrong: mask/1.png' in capsys.readouterr().err
    assert not (root / 'mask/1.png').exists()


def test_the_complete_dataset_is_expected(tmp_path, capsys):
    root = write_raw(tmp_path / 'faces')
    assert run_tool(TOOL, root) == 1
    error = capsys.readouterr().err
    assert 'lacks some of the 30,000 faces' in error
    assert len(error.strip().splitlines()) == 1
    assert not (root / 'mask').exists()


def test_options_of_the_split(tmp_path, capsys):
    root = write_raw(tmp_path / 'faces')
    assert run_tool(TOOL, root, '--allow-partial', '--workers', 1, '--split', 'random', '--seed', 4) == 0
    assert 'train_celebahqmask.txt: 4 faces' in capsys.readouterr().out
    assert run_tool(TOOL, root, '--allow-partial', '--workers', 1) == 1
    assert 'was written with other files or options' in capsys.readouterr().err

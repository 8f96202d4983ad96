"""Every rule of the environment check, on fictitious environments, and the command on the real one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reprefine import check_env
from reprefine.environment import FORK_FIELDS, FORKS_LACK, MODULES, OFFICIAL_FIELDS, Devices, find_problems, make_rows

ROOT = Path(__file__).parents[1]

VALID = {
    'torch': '2.12.1',
    'numpy': '2.2.6',
    'setuptools': '80.10.2',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmpretrain': '1.2.0',
    'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2',
    'mmpose': '1.3.2',
    'xtcocotools': '1.14.3',
}
FORKS = {
    'torch': '2.12.1',
    'numpy': '2.2.6',
    'setuptools': '80.10.2',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmsegmentation': '1.4.2',
    'mmpose': '1.3.2',
}
CPU = Devices(backends=('gloo',))
SEGMENTATION = {'segmentation', 'face parsing', 'depth'}
OPS = {'detection', 'facial landmarks', 'compiled mmcv ops', *SEGMENTATION}
MMPRETRAIN = {'classification', 're-identification', 'demo'}


def imports(**errors):
    """All modules import, but for those given (a double underscore stands for the dot)."""
    return dict.fromkeys(MODULES) | {name.replace('__', '.'): error for name, error in errors.items()}


def failing(versions, modules, devices=CPU):
    """Rows that do not work, by task, the missing GPU left out."""
    return {row.task: row for row in make_rows(versions, modules, devices) if not row.works and row.task != 'GPU'}


@pytest.mark.parametrize('versions', [VALID, FORKS], ids=['official', 'forks'])
def test_sound_sets_have_no_finding(versions):
    assert find_problems(versions, imports()) == []
    assert failing(versions, imports()) == {}


@pytest.mark.parametrize('intruder', ['onedl-mmcv', 'onedl-mmengine', 'onedl-mmdetection', 'mmcv-lite'])
def test_mixture_takes_everything_although_all_imports_succeed(intruder):
    rows = failing(VALID | {intruder: '2.0.0'}, imports())
    assert set(rows) == OPS | MMPRETRAIN | {'package family'}
    assert intruder in rows['classification'].note
    assert intruder in rows['classification'].remedy
    assert rows['classification'].remedy.startswith('pip uninstall -y')


def test_mmpose_may_stand_beside_the_forks():
    assert 'mmpose' in FORKS
    assert find_problems(FORKS, imports()) == []


@pytest.mark.parametrize(
    ('versions', 'note'),
    [
        (VALID, 'the official packages (mmcv, '),
        (FORKS, 'the maintained forks (onedl-mmcv, '),
        ({}, 'none is installed'),
    ],
)
def test_family_row(versions, note):
    row = {row.task: row for row in make_rows(versions, imports(), CPU)}['package family']
    assert row.works is bool(versions)
    assert row.note.startswith(note)
    assert (FORKS_LACK in row.note) is (versions is FORKS)


def test_remedies_install_packages_of_the_family_that_is_there():
    errors = dict.fromkeys(MODULES, 'gone')
    for versions, words, other in ((VALID, OFFICIAL_FIELDS, FORK_FIELDS), (FORKS, FORK_FIELDS, OFFICIAL_FIELDS)):
        remedies = [*make_rows(versions, errors, CPU)]
        remedies += make_rows(versions | {'torch': '2.14.0'}, errors, Devices(('A100',)))
        remedies += make_rows(versions, imports(mmcv__ops='gone', mmdet__models='gone'), Devices(('A100',)))
        texts = ' '.join(row.remedy for row in remedies)
        assert '{' not in texts
        assert f'{words["mmcv"]}=={words["mmcv_version"]}' in texts
        assert f'{other["mmcv"]}=={other["mmcv_version"]}' not in texts.replace(f'onedl-{other["mmcv"]}', '')
        assert words['requirements'] in texts
        assert other['requirements'] not in texts


@pytest.mark.parametrize('words', [OFFICIAL_FIELDS, FORK_FIELDS], ids=['official', 'forks'])
def test_remedies_name_the_version_that_is_required(words):
    requirements = (ROOT / words['requirements']).read_text().splitlines()
    assert f'{words["mmcv"]}=={words["mmcv_version"]}' in requirements


def test_what_the_forks_lack_is_what_they_lack():
    from mmdet.datasets.transforms import transforms

    assert FORKS_LACK.endswith(' Corrupt')
    assert hasattr(transforms, 'Corrupt') is ('mmdet' in check_env.installed_versions())


def test_environment_of_the_demo_runs_classification_and_says_what_completes_it():
    absent = ('mmdet.models', 'mmseg.models', 'mmpose.models', 'xtcocotools._mask', 'onnx', 'onnxruntime')
    modules = imports() | dict.fromkeys(('mmcv.ops', *absent), 'No module named X')
    versions = {name: VALID[name] for name in ('torch', 'numpy', 'setuptools', 'mmengine', 'mmpretrain')}
    rows = failing(versions | {'mmcv-lite': '2.1.0'}, modules)
    assert set(rows) == OPS | {'ONNX export'}
    assert {row.remedy for row in rows.values()} == {'make install'}
    assert all('make demo' in row.note for row in rows.values())


CASES = {
    'torch too new': (
        {'torch': '2.14.0'},
        {'mmcv__ops': "No module named 'mmcv'"},
        {'classification', *OPS},
        'torch 2.14.0 is too new',
        'torch==2.12.1',
    ),
    'ops missing': (
        {},
        {'mmcv__ops': "No module named 'mmcv._ext'"},
        OPS,
        "No module named 'mmcv._ext'",
        '--no-build-isolation',
    ),
    'mmcv above the cap of two': (
        {'mmcv': '2.2.0'},
        {},
        {'detection', *SEGMENTATION},
        'refuses mmcv 2.2.0',
        'mmcv 2.1.0',
    ),
    'mmcv above every cap': (
        {'mmcv': '2.4.0'},
        {},
        {'classification', 'detection', *SEGMENTATION},
        'mmcv < 2.4.0',
        'mmcv 2.1.0',
    ),
    'no pkg_resources': (
        {'setuptools': '84.0.0'},
        {'pkg_resources': "No module named 'pkg_resources'"},
        {'classification', *OPS},
        'setuptools 84.0.0',
        'setuptools==80.10.2',
    ),
    'transformers': (
        {'transformers': '5.23.0'},
        {'mmpretrain__models': 'NoneType takes no arguments'},
        {'classification', 're-identification'},
        'transformers 5.23.0',
        'transformers<5',
    ),
    'xtcocotools': (
        {},
        {'xtcocotools___mask': 'numpy.dtype size changed'},
        {'facial landmarks'},
        'compiled for numpy 1',
        '--no-binary xtcocotools',
    ),
    'numpy': ({'numpy': '2.4.0'}, {}, {'re-identification'}, 'numpy 2.4.0', 'numpy==2.2.6'),
    'no mmengine': (
        {},
        {'mmengine': "No module named 'mmengine'"},
        {'classification', *OPS},
        "No module named 'mmengine'",
        'mminstall.txt',
    ),
    'no mmdet': ({}, {'mmdet__models': "No module named 'mmdet'"}, {'detection'}, 'mmdet', 'mminstall.txt'),
    'no diffusers': (
        {},
        {'diffusers__models__unets__unet_2d': "No module named 'diffusers'"},
        {'demo', 'diffusion teachers'},
        'diffusers',
        'optional.txt',
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_each_conflict_takes_exactly_its_tasks(case):
    versions, errors, tasks, problem, remedy = CASES[case]
    rows = failing(VALID | versions, imports(**errors))
    expected = tasks | (MMPRETRAIN if 'classification' in tasks else set())
    assert set(rows) == expected
    assert any(problem in row.note for row in rows.values())
    assert any(remedy in row.remedy for row in rows.values())


def test_newer_versions_that_do_no_harm_are_left_alone():
    newer = VALID | {'torch': '2.14.0', 'transformers': '5.0.0', 'setuptools': '84.0.0'}
    assert find_problems(newer, imports()) == []


@pytest.mark.parametrize(
    ('devices', 'works', 'note'),
    [
        (CPU, False, 'none visible'),
        (Devices(('A100',), ('gloo', 'nccl'), '12.9'), True, 'A100'),
        (Devices(('A100',), ('gloo', 'nccl'), ''), False, 'CPU only'),
    ],
)
def test_gpu_row(devices, works, note):
    row = {row.task: row for row in make_rows(VALID, imports(), devices)}['GPU']
    assert row.works is works
    assert note in row.note


def test_distributed_row_names_the_back_ends():
    rows = {row.task: row for row in make_rows(VALID, imports(), Devices(('A100',), ('gloo', 'nccl'), '12.9'))}
    assert rows['distributed'].note == 'gloo, nccl'
    assert not {row.task: row for row in make_rows(VALID, imports(), Devices())}['distributed'].works


def test_failed_import_is_one_line(tmp_path, monkeypatch):
    (tmp_path / 'broken_for_test.py').write_text('print("noise")\nraise RuntimeError("first\\nsecond")\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert check_env.try_import('broken_for_test') == 'first second'
    assert check_env.try_import('json') is None


def run(monkeypatch, capsys, versions, errors, argv):
    """Run the command on a made-up environment; return exit code, stdout and stderr."""
    modules = imports(**errors)
    monkeypatch.setattr(check_env, 'installed_versions', lambda: versions)
    monkeypatch.setattr(check_env, 'try_import', modules.get)
    monkeypatch.setattr(check_env, 'find_devices', lambda: CPU)
    code = check_env.run_cli(check_env.main, check_env.make_parser(), argv)
    return code, *capsys.readouterr()


def test_exit_code_and_last_line(monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, VALID, {}, [])
    assert (code, err) == (0, '')
    assert 'classification' in out
    code, out, err = run(monkeypatch, capsys, VALID | {'onedl-mmcv': '2.3.6'}, {}, [])
    assert code == 1
    assert err.count('\n') == 1
    assert 'onedl-mmcv' in err
    assert 'pip uninstall -y' in err


def test_missing_detection_alone_is_no_failure(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, VALID, {'mmdet__models': 'gone'}, ['--json'])
    rows = {row['task']: row for row in json.loads(out)['rows']}
    assert code == 0
    assert not rows['detection']['works']
    assert rows['classification']['works']


def test_this_environment():
    command = [sys.executable, '-m', 'reprefine.check_env', '--json']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row['task']: row for row in json.loads(done.stdout)['rows']}
    assert rows['classification']['works']
    assert 'gloo' in rows['distributed']['note']


def test_judging_imports_nothing_heavy():
    code = 'import sys, reprefine.environment; print([m for m in ("torch", "mmcv", "mmpretrain") if m in sys.modules])'
    assert subprocess.check_output([sys.executable, '-c', code], text=True).strip() == '[]'

"""The shared runner of the experiments."""

import argparse
import sys

import pytest

from reprefine.engine.cli.jobs import Job
from reprefine.engine.errors import UserError
from tests.helpers.run_tool import import_beside

runner = import_beside('experiments/denoiserep.py', 'runner')


def test_a_folder_with_other_content_is_not_changed(tmp_path):
    (tmp_path / 'precious').touch()
    with pytest.raises(UserError, match='is not the folder of an experiment'):
        runner.prepare_folder(tmp_path, resume=False)
    assert (tmp_path / 'precious').exists()


def test_the_folder_of_an_experiment_is_emptied_unless_resumed(tmp_path):
    out = tmp_path / 'demo'
    runner.prepare_folder(out, resume=False)
    (out / 'result').touch()
    runner.prepare_folder(out, resume=True)
    assert (out / 'result').exists()
    runner.prepare_folder(out, resume=False)
    assert not (out / 'result').exists()


def write_job(folder, name, after=()):
    """A job that appends its name to a file and writes its product."""
    script = folder / f'{name}.py'
    script.write_text(f'open({str(folder / "order")!r}, "a").write("{name} ")\nopen({str(folder / name)!r}, "w")\n')
    return Job(name, [str(script)], folder / f'{name}.log', after, folder / name)


def test_finished_jobs_are_not_repeated(tmp_path, capsys):
    args = argparse.Namespace(jobs=2, out=tmp_path)
    first, second = write_job(tmp_path, 'first'), write_job(tmp_path, 'second', ('first',))
    runner.run([first], args, preload=())
    runner.run([second, first], args, preload=())
    assert (tmp_path / 'order').read_text() == 'first second '
    assert f'2 jobs, 2 at a time; logs and results in {tmp_path}' in capsys.readouterr().out


@pytest.mark.parametrize('argv', [['demo.py', '--seeds', '3'], ['demo.py', '--seeds', '3', '--resume']])
def test_an_interrupted_experiment_names_the_command_that_resumes(tmp_path, monkeypatch, argv):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, 'run_jobs', interrupted)
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(UserError, match=r'interrupted: resume with .*demo\.py --seeds 3 --resume$'):
        runner.run([], argparse.Namespace(jobs=1, out=tmp_path), resume=('--resume',))


def test_a_report_is_written_and_printed(tmp_path, capsys):
    runner.save_report('| a |', tmp_path / 'table.md')
    assert (tmp_path / 'table.md').read_text() == capsys.readouterr().out == '| a |\n'

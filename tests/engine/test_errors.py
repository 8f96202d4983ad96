import argparse
import json
import subprocess
import sys

import pytest
import torch
from mmengine.logging import MMLogger

from reprefine.engine.errors import MAX_LENGTH, UserError, error_summary, run_cli
from tests.helpers.run import ROOT


def run(main, *argv):
    return run_cli(main, argparse.ArgumentParser('tool.py'), list(argv))


def raising(error):
    def main(args):
        raise error

    return main


def test_a_user_error_prints_only_its_message(capsys):
    assert run(raising(UserError('a is wrong;\n  give b'))) == 1
    assert capsys.readouterr().err == 'tool.py: error: a is wrong; give b\n'


def test_another_error_is_one_line_with_type_and_source_line(capsys):
    assert run(raising(ZeroDivisionError('division\nby zero'))) == 1
    error = capsys.readouterr().err
    assert error.startswith('tool.py: error: ZeroDivisionError: division by zero (at tests/engine/test_errors.py:')
    assert error.endswith('the traceback is shown with --traceback\n')
    assert error.count('\n') == 1


def test_its_traceback_is_in_the_log_of_the_run(tmp_path, capsys):
    log = tmp_path / 'run.log'

    def main(args):
        MMLogger.get_instance(f'run in {tmp_path}', log_file=str(log))
        raise KeyError('bboxes')

    assert run(main) == 1
    assert f'the traceback is in {log}' in capsys.readouterr().err
    assert "raise KeyError('bboxes')" in log.read_text()
    assert run(raising(KeyError('other'))) == 1  # a run without a log does not write to that of another one
    assert 'other' not in log.read_text()


def test_the_flag_prints_the_traceback(capsys):
    assert run(raising(KeyError('a')), '--traceback') == 1
    error = capsys.readouterr().err
    assert error.startswith('Traceback (most recent call last)')
    assert 'in main' in error


def test_an_interrupt_is_one_line(capsys):
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip() == 'tool.py: stopped by the user'


@pytest.mark.parametrize('cause', [None, OSError()])
def test_an_interrupt_that_a_library_converts_to_another_error_is_found(cause):
    def main(args):
        try:
            raise KeyboardInterrupt
        except:  # noqa: E722 (as libraries do)
            raise SyntaxError('cannot be formatted') from cause

    assert run(main) == 130


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise KeyError('bboxes')


def test_the_summary_of_a_worker_error_is_that_of_the_original_error():
    with pytest.raises(KeyError) as caught:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert error_summary(caught.value) == "KeyError: 'bboxes'"


def test_messages_are_printed_up_to_a_length():
    assert error_summary(ValueError()) == 'ValueError: without a message'
    assert len(error_summary(ValueError('a' * 10_000))) == MAX_LENGTH + 4


def test_a_closed_output_ends_a_tool_without_a_message():
    code = (
        'import argparse, sys\n'
        'from reprefine.engine.errors import run_cli\n'
        'def main(args):\n'
        '    for number in range(100_000):\n'
        '        print(number)\n'
        'sys.exit(run_cli(main, argparse.ArgumentParser("tool.py")))\n'
    )
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b'0\n'
    process.stdout.close()
    assert process.stderr.read() == b''
    assert process.wait() == 141


def test_another_broken_pipe_is_an_error(capsys):
    assert run(raising(BrokenPipeError('of a worker'))) == 1
    assert 'BrokenPipeError: of a worker' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('argv', 'code', 'last'), [((), 1, 'tool.py: error: a is wrong'), (('-x',), 2, 'error: unrecognized arguments: -x')]
)
def test_one_of_several_processes_passes_its_line_to_the_launcher(tmp_path, monkeypatch, capsys, argv, code, last):
    file = tmp_path / 'error.json'
    monkeypatch.setenv('REPREFINE_LAUNCHED', '1')
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(file))
    if code == 2:  # argparse ends the process
        with pytest.raises(SystemExit, match='2'):
            run(raising(UserError('a is wrong')), *argv)
    else:
        assert run(raising(UserError('a is wrong')), *argv) == code
    assert capsys.readouterr().err == ''
    assert json.loads(file.read_text())['message']['message'].endswith(last)

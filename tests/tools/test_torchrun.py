"""The end of a run of several processes: one error, once, as the last line; exit codes."""

import runpy
import signal
import subprocess

import pytest

from tests.helpers.killed import SignalAt, in_process
from tests.helpers.run import DIGITS, ROOT, start

SCRIPT = """
import argparse, os, signal, sys, time
rank = int(os.environ['RANK'])
from reprefine.engine.errors import UserError, run_cli

def main(args):
    if args.way == 'sleep' or rank == 0 and args.way != 'all':
        os.write(1, b'ready\\n')  # at once, so that two processes do not share a line
        time.sleep(60)
    if args.way == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if args.way == 'exit':
        os._exit(3)
    raise UserError('a is wrong')

parser = argparse.ArgumentParser('tool.py')
parser.add_argument('way')
parser.add_argument('--launcher')
sys.exit(run_cli(main, parser))
"""


SIGNALS = '--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'


def written(tmp_path):
    script = tmp_path / 'tool.py'
    script.write_text(SCRIPT)
    return str(script)


def launch(work_dir, script, way):
    """Run the script in two processes."""
    main = runpy.run_path(str(ROOT / 'tools/misc/torchrun.py'))['main']
    return main([SIGNALS, '--standalone', '--nproc_per_node=2', script, way])


@pytest.mark.parametrize(
    ('way', 'line'),
    [
        ('all', 'tool.py: error: a is wrong'),
        ('second', 'tool.py: error: a is wrong'),
        ('kill', 'tool.py: error: process 1 was killed by SIGKILL, see its output above'),
        ('exit', 'tool.py: error: process 1 ended with exit code 3, see its output above'),
    ],
)
def test_the_error_is_printed_once_as_the_last_line(tmp_path, way, line):
    code = in_process(launch, written(tmp_path), way, work_dir=tmp_path / 'run', after=SignalAt(0, 0))
    error = (tmp_path / 'run.log').read_text()
    assert code == 1
    assert error.strip().splitlines()[-1] == line
    assert error.count('a is wrong') == (way in ('all', 'second'))
    assert 'Traceback' not in error


def test_a_signal_is_forwarded(tmp_path):
    torchrun = ('tools/misc/torchrun.py', SIGNALS, '--standalone', '--nproc_per_node=2')
    process = start(*torchrun, written(tmp_path), 'sleep', OMP_NUM_THREADS='1')
    for _ in range(2):
        assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    error = process.communicate()[1]
    assert process.returncode == 1
    assert 'Traceback' not in error


@pytest.mark.parametrize(
    ('script', 'argv', 'line'),
    [
        (
            'dist_train.sh',
            (DIGITS, '2', '--work-dir', '{0}/run', '--cfg-options', 'no.such=1'),
            'train.py: error: --cfg',
        ),
        ('dist_test.sh', (DIGITS, '{0}/a.pth', '2', '--no-such'), 'test.py: error: unrecognized arguments: --no-such'),
    ],
)
def test_the_scripts_end_with_the_line_of_the_tool(tmp_path, script, argv, line):
    (tmp_path / 'a.pth').write_bytes(b'')
    command = ['bash', f'tools/{script}', *(word.format(tmp_path) for word in argv)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(line)
    assert done.stderr.count('error:') == 1
    assert 'Traceback' not in done.stderr

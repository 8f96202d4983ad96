"""Scripts that depend on each other."""

import os
import sys
import textwrap

import pytest

from reprefine.engine.cli.jobs import Job, run_jobs
from reprefine.engine.errors import UserError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', os.environ.get('OMP_NUM_THREADS', '1'))


def job(tmp_path, name, code, after=(), product=None, argv=()):
    script = tmp_path / f'{name}.py'
    script.write_text(textwrap.dedent(code))
    return Job(name, [script, *argv], tmp_path / f'{name}.log', after, product)


def test_jobs_run_after_what_they_need_with_their_arguments(tmp_path):
    first = tmp_path / 'first.txt'
    jobs = [
        job(tmp_path, 'second', 'import sys; print(open(sys.argv[1]).read() + "b")', after=('first',), argv=[first]),
        job(tmp_path, 'first', 'import sys; open(sys.argv[1], "w").write("a")', argv=[first]),
    ]
    run_jobs(jobs, workers=2)
    assert (tmp_path / 'second.log').read_text().strip() == 'ab'


def test_a_script_runs_as_its_own_main_beside_its_modules(tmp_path):
    (tmp_path / 'neighbour.py').write_text('value = 3')
    code = """
        import os, sys
        from neighbour import value
        print(__name__, value, os.environ['OMP_NUM_THREADS'])
        print('to stderr', file=sys.stderr)
    """
    run_jobs([job(tmp_path, 'main', code)], workers=1)
    assert sorted((tmp_path / 'main.log').read_text().splitlines()) == ['__main__ 3 1', 'to stderr']


def test_no_more_than_the_given_number_run_at_a_time(tmp_path):
    code = f"""
        import os, time
        mark = {str(tmp_path)!r} + f'/running-{{os.getpid()}}'
        open(mark, 'w').close()
        seen = len([f for f in os.listdir({str(tmp_path)!r}) if f.startswith('running-')])
        time.sleep(0.3)
        os.remove(mark)
        print(seen)
    """
    run_jobs([job(tmp_path, f'j{i}', code) for i in range(4)], workers=1)
    assert [(tmp_path / f'j{i}.log').read_text().strip() for i in range(4)] == ['1'] * 4


def test_a_job_whose_product_exists_is_skipped(tmp_path):
    product = tmp_path / 'product'
    product.touch()
    run_jobs([job(tmp_path, 'done', 'raise SystemExit(1)', product=product)], workers=1)
    assert not (tmp_path / 'done.log').exists()


def test_a_failing_job_is_named_and_stops_the_rest(tmp_path):
    jobs = [
        job(tmp_path, 'bad', 'print("why it failed"); raise SystemExit(3)'),
        job(tmp_path, 'never', 'pass', after=('bad',)),
    ]
    with pytest.raises(UserError, match='"bad" failed with exit code 3: why it failed'):
        run_jobs(jobs, workers=2)
    assert not (tmp_path / 'never.log').exists()
    assert sys.argv[0] != str(tmp_path / 'bad.py')  # the scripts' arguments stay in their processes

"""A file that cannot be read ends training, or is replaced and listed, with every method and host library."""

import pytest

from tests.helpers.run import run_train
from tests.helpers.subjects import SUBJECTS, write_subject


@pytest.mark.parametrize('name', SUBJECTS)
def test_an_unreadable_file_is_named_or_replaced(name, tmp_path, capsys):
    subject = write_subject(name, tmp_path)
    bad = subject.files[1]
    bad.write_bytes(bad.read_bytes()[:40])
    assert run_train(subject.config, '--work-dir', str(tmp_path / 'strict'), *subject.argv) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('train.py: error: ')
    assert str(bad) in error
    assert 'max_corrupt_samples=N' in error

    run = tmp_path / 'run'
    options = ('--cfg-options', 'max_corrupt_samples=1')
    assert run_train(subject.config, '--work-dir', str(run), *subject.argv, *options) == 0
    assert [line.split('\t')[0] for line in (run / 'corrupt_samples.txt').read_text().splitlines()] == [str(bad)]
    assert (run / 'iter_6.pth').is_file()

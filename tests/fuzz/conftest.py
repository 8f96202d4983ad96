import pytest

from tests.helpers.run import train_digits


@pytest.fixture(scope='session')
def valid(tmp_path_factory):
    """The checkpoint of a run of one epoch, with its checksum beside it."""
    work_dir = tmp_path_factory.mktemp('valid')
    assert train_digits(work_dir, 'train_cfg.max_epochs=1') == 0
    return work_dir / 'epoch_1.pth'

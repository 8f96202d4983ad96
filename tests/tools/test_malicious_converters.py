"""Malicious checkpoints given to converters: exit code 1, one line, nothing executed and nothing written."""

import pytest

from tests.helpers.malicious import assert_refused, system, write_malicious
from tests.helpers.run import DENOISED, DIGITS
from tests.helpers.run_tool import run_tool


@pytest.fixture
def created(tmp_path):
    """The folder that malicious files create."""
    folder = tmp_path / 'created'
    yield folder
    assert not folder.exists()


@pytest.mark.parametrize(
    ('tool', 'before'),
    [
        ('reparameterize_model.py', (DENOISED,)),
        ('import_denoiserep.py', (DIGITS,)),
        ('import_transreid_ssl.py', ()),
        ('export_repfusion.py', ()),
        ('publish_model.py', ()),
    ],
)
def test_converters(tmp_path, created, capsys, tool, before):
    file = write_malicious(tmp_path / 'a.pth', dict(state_dict={}, payload=system(created)))
    assert_refused(run_tool(f'model_converters/{tool}', *before, file, tmp_path / 'out.pth'), capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_moco_converter(tmp_path, created, capsys):
    file = write_malicious(tmp_path / 'a.pth', dict(state_dict={}, payload=system(created)))
    assert_refused(
        run_tool('model_converters/import_feature_transform.py', file, tmp_path / 'out.pth'), capsys.readouterr().err
    )

"""Every tool explains itself."""

import re
import runpy

import pytest

from tests.helpers.run_tool import TOOLS, first_on_path

ENTRY = 'run_as_tool('
SCRIPTS = sorted(path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob('*.py') if ENTRY in path.read_text())


def test_all_tools_are_found():
    assert {'train.py', 'test.py', 'analysis_tools/get_flops.py', 'dataset_tools/make_toy_data.py'} <= set(SCRIPTS)
    assert len(SCRIPTS) > 50


@pytest.mark.parametrize('tool', SCRIPTS)
def test_help_has_description_and_an_example_of_the_tool(tool, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', [tool, '--help'])
    with first_on_path((TOOLS / tool).parent), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert re.match(r'usage: .*?\n\n[A-Z][^\n]*', text, re.DOTALL)
    example = text.rpartition('example')[2]
    assert f'python tools/{tool}' in example

"""The entry point of the tools."""

import argparse

import pytest

from reprefine.engine.cli.tool import make_parser, run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = 'example:\n  double.py 3 \\\n      --plus 1'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('number', type=int)
    parser.add_argument('--plus', type=int, default=0)


def main(args: argparse.Namespace) -> None:
    if args.number < 0:
        raise UserError(f'number {args.number}: give 0 or more')
    print(2 * args.number + args.plus)


@pytest.mark.parametrize(
    ('argv', 'code', 'out', 'err'),
    [(['3', '--plus', '1'], 0, '7\n', ''), (['--', '-1'], 1, '', 'double.py: error: number -1: give 0 or more\n')],
)
def test_the_process_ends_with_the_exit_code_of_main(monkeypatch, capsys, argv, code, out, err):
    monkeypatch.setattr('sys.argv', ['double.py', *argv])
    with pytest.raises(SystemExit) as ended:
        run_as_tool(main, add_arguments, 'Double a number.', EXAMPLE)
    assert ended.value.code == code
    assert capsys.readouterr() == (out, err)


def test_another_function_may_end_the_process(monkeypatch):
    monkeypatch.setattr('sys.argv', ['double.py', '3'])
    codes = []
    run_as_tool(main, add_arguments, 'Double a number.', EXAMPLE, leave=codes.append)
    assert codes == [0]


def test_help_shows_description_and_example_with_their_line_breaks():
    text = make_parser(add_arguments, 'Double a number.\n\nNothing else.', EXAMPLE).format_help()
    assert 'Double a number.\n\nNothing else.\n' in text
    assert text.rstrip().endswith(EXAMPLE)

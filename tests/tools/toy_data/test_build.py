import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_data import SETS, build, make_toy_data
from toy_data.build import ToySet

from reprefine.engine.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def writes(monkeypatch):
    """Three small sets instead of the real ones; yields the names of the folders written so far."""
    done = []

    def write(folder, rng):
        (folder / 'sub').mkdir(parents=True)
        (folder / 'sub' / 'data').write_bytes(rng.bytes(64))
        done.append(folder.name)

    def add(folder, rng):
        (folder / 'list').write_bytes(rng.bytes(8))
        done.append('list')

    sets = {
        'first': ToySet('first', 'fake'),
        'second': ToySet('deep/second', 'fake'),
        'lists': ToySet('first', 'fake_lists', base='first'),
    }
    monkeypatch.setattr(build, 'SETS', sets)
    monkeypatch.setitem(sys.modules, 'toy_data.fake', SimpleNamespace(write=write))
    monkeypatch.setitem(sys.modules, 'toy_data.fake_lists', SimpleNamespace(write=add))
    return done


def content(folder):
    """Bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_every_set_is_written_where_its_table_says(tmp_path, writes):
    assert make_toy_data(tmp_path) == [tmp_path / 'first', tmp_path / 'deep' / 'second']
    assert set(content(tmp_path)) == {'.toy_data.json', 'first/sub/data', 'first/list', 'deep/second/sub/data'}
    assert json.loads((tmp_path / '.toy_data.json').read_text()) == {
        'seed': 0,
        'version': build.VERSION,
        'names': ['first', 'lists', 'second'],
    }


def test_bytes_depend_on_seed_and_name_alone(tmp_path, writes):
    make_toy_data(tmp_path / 'all')
    make_toy_data(tmp_path / 'some', ['second'])
    make_toy_data(tmp_path / 'other', ['second'], seed=1)
    everything, some, other = (content(tmp_path / name) for name in ('all', 'some', 'other'))
    data = 'deep/second/sub/data'
    assert everything[data] == some[data] != other[data]
    assert everything['first/sub/data'] != everything[data]


def test_what_exists_is_left_alone(tmp_path, writes):
    make_toy_data(tmp_path, ['first'])
    (tmp_path / 'first' / 'sub' / 'data').write_text('mine now')
    assert make_toy_data(tmp_path, ['second', 'first']) == [tmp_path / 'first', tmp_path / 'deep' / 'second']
    assert (tmp_path / 'first' / 'sub' / 'data').read_text() == 'mine now'
    assert len(writes) == 2


def test_a_set_that_adds_to_another_brings_it_along(tmp_path, writes):
    assert make_toy_data(tmp_path, ['lists']) == [tmp_path / 'first']
    assert writes == ['.first.partial', 'list']
    before = content(tmp_path)
    for path in ('first/sub/data', 'first/list'):
        (tmp_path / path).unlink()
    (tmp_path / 'first' / 'sub').rmdir()
    make_toy_data(tmp_path, ['lists'])
    assert content(tmp_path) == before


def test_an_interrupted_call_leaves_whole_sets_and_can_be_repeated(tmp_path, writes, monkeypatch):
    whole_write = sys.modules['toy_data.fake'].write

    def interrupted(folder, rng):
        whole_write(folder, rng)
        if 'second' in folder.name:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules['toy_data.fake'], 'write', interrupted)
        make_toy_data(tmp_path / 'out')
    assert set(content(tmp_path / 'out')) == {'.toy_data.json', 'first/sub/data'}
    make_toy_data(tmp_path / 'out')
    make_toy_data(tmp_path / 'whole')
    assert content(tmp_path / 'out') == content(tmp_path / 'whole')


def test_what_a_killed_call_left_is_replaced(tmp_path, writes, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(build, '_build', lambda *_: 1 / 0)
        make_toy_data(tmp_path)
    leftover = tmp_path / 'deep' / '.second.partial' / 'sub'
    leftover.mkdir(parents=True)
    (leftover / 'half').write_text('')
    make_toy_data(tmp_path)
    assert set(content(tmp_path / 'deep')) == {'second/sub/data'}


@pytest.mark.parametrize(
    ('files', 'arguments', 'message'),
    [
        (['photo.jpg'], {}, r'out was not made by this tool: choose a new or an empty folder$'),
        (['.toy_data.json'], {}, r'out/.toy_data.json is damaged: remove \S*out and make it again$'),
        ([], {'only': ['cocoa', 'first']}, r'^unknown toy data cocoa; choose from first, second, lists$'),
        ([], {'seed': -1}, r'^seed -1: give 0 or more$'),
    ],
)
def test_refusals(tmp_path, writes, files, arguments, message):
    out = tmp_path / 'out'
    out.mkdir()
    for name in files:
        (out / name).write_text('')
    with pytest.raises(UserError, match=message):
        make_toy_data(out, **arguments)
    assert [path.name for path in out.iterdir()] == files
    assert writes == []


def test_foreign_folders_are_refused_before_anything_is_written(tmp_path, writes):
    make_toy_data(tmp_path, ['first'])
    (tmp_path / 'deep' / 'second').mkdir(parents=True)
    (tmp_path / 'deep' / 'second' / 'photo.jpg').write_text('')
    with pytest.raises(UserError, match=r'deep/second was not made by this tool: remove it or choose another'):
        make_toy_data(tmp_path)
    assert writes == ['.first.partial']


def test_another_seed_or_version_is_refused(tmp_path, writes, monkeypatch):
    make_toy_data(tmp_path, ['first'], seed=3)
    with pytest.raises(UserError, match=r'made with seed 3 by version \d, not seed 4 .*: remove it or choose another'):
        make_toy_data(tmp_path, ['first'], seed=4)
    monkeypatch.setattr(build, 'VERSION', 9)
    with pytest.raises(UserError, match=r'by version \d, not seed 3 by version 9'):
        make_toy_data(tmp_path, ['first'], seed=3)


def test_an_empty_folder_or_one_of_hidden_files_is_taken(tmp_path, writes):
    (tmp_path / '.gitkeep').write_text('')
    make_toy_data(tmp_path, ['first'])
    (tmp_path / 'deep' / 'second').mkdir(parents=True)
    make_toy_data(tmp_path, ['second'])
    assert [len(content(tmp_path)[f'{name}/sub/data']) for name in ('first', 'deep/second')] == [64, 64]


def test_folders_are_those_of_the_real_data():
    page = (ROOT / 'data' / 'README.md').read_text()
    assert [toy.folder for toy in SETS.values() if f'`data/{toy.folder}`' not in page] == []


def test_every_set_has_its_module():
    modules = {name: f'toy_data.{toy.module}' for name, toy in SETS.items()}
    assert [name for name, module in modules.items() if not importlib.util.find_spec(module)] == []

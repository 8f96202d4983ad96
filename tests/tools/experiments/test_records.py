"""Records of experiments, the tables written from them, and the execution in parts."""

import json
import random
import re
import subprocess

import pytest

from reprefine.engine.errors import UserError
from tests.helpers.repository import ROOT, files
from tests.helpers.run_tool import TOOLS, first_on_path, import_beside, run_tool

records = import_beside('experiments/records.py', 'records')
tables = import_beside('experiments/tables.py', 'tables')
parts = import_beside('experiments/parts.py', 'parts')


def record(**changes):
    rows = [
        records.Row('plain', {'accuracy': [90.0, 91.0, 92.0]}),
        records.Row('refined', {'accuracy': [91.0, 92.5, 92.0], 'seconds': [1.0, 1.0, 1.0]}, 'plain'),
    ]
    metrics = {'accuracy': records.Metric('accuracy (%)', 1), 'seconds': records.Metric('seconds', 0, compare=False)}
    values = dict(
        title='t', kind='mechanism', data='d', seeds=[0, 1, 2], metrics=metrics, rows=rows, minutes=3.2, threads=1
    )
    return records.Record(**(values | records.environment() | dict(notes=dict(images=7)) | changes))


def test_a_record_is_read_as_it_was_saved(tmp_path):
    records.save_record(tmp_path / 'a.json', record())
    assert records.read_record(tmp_path / 'a.json') == record()
    assert '[90.0, 91.0, 92.0]' in (tmp_path / 'a.json').read_text()


def test_a_row_needs_a_value_for_each_seed_and_a_control_that_exists(tmp_path):
    with pytest.raises(UserError, match='plain: accuracy has 3 values for 2 seeds'):
        records.save_record(tmp_path / 'a.json', record(seeds=[0, 1]))
    with pytest.raises(UserError, match="no row 'gone': use one of x"):
        records.check_record(record(rows=[records.Row('x', {}, 'gone')]))
    with pytest.raises(UserError, match="kind='guess': use one of mechanism, end to end"):
        records.check_record(record(kind='guess'))
    with pytest.raises(UserError, match='is not the record of an experiment'):
        (tmp_path / 'b.json').write_text('{}')
        records.read_record(tmp_path / 'b.json')


def test_tables_hold_means_and_paired_differences():
    assert tables.record_table(record()).splitlines()[2:] == [
        '| plain | 91.0 ± 1.0 |  |  |',
        '| refined | 91.8 ± 0.8 | +0.8 ± 0.8 | 1 ± 0 |',
    ]
    rows = [*record().rows, records.Row('other', {'accuracy': [1.0, 2.0, 3.0]}, 'refined')]
    rows.append(records.Row('fast', {'seconds': [1.0, 2.0, 3.0]}, 'plain'))  # which the control has not measured
    metrics = {name: records.Metric(name) for name in ('accuracy', 'seconds')}
    table = tables.record_table(record(rows=rows, metrics=metrics))
    assert table.splitlines()[-1] == '| fast |  |  | 2.00 ± 1.00 |  |'
    assert 'minus plain' in tables.record_table(record())
    assert tables.record_table(record(), ['refined'], ['seconds']).splitlines()[-1] == '| refined | 1 ± 0 |'
    with pytest.raises(UserError, match="no metric 'x'"):
        tables.record_table(record(), metrics=['x'])


def test_marked_tables_and_numbers_of_a_page_are_written(tmp_path):
    records.save_record(tmp_path / 'a.json', record())
    page = tmp_path / 'page.md'
    page.write_text(
        'before\n\n<!-- table: a.json | rows: refined | metrics: accuracy -->\nold\n<!-- end -->\n'
        'gains <!-- value: a.json :: refined :: accuracy :: difference -->?<!-- end --> of '
        '<!-- value: a.json ::  :: images :: note -->?<!-- end -->. <!-- value: a.json ::  :: :: source --><!-- end -->'
    )
    page.write_text(tables.updated(page))
    assert tables.updated(page) == page.read_text()
    assert '| refined | 91.8 ± 0.8 | +0.8 ± 0.8 |\n<!-- end -->' in page.read_text()
    assert '-->+0.8 ± 0.8<!-- end --> of <!-- value: a.json ::  :: images :: note -->7<!-- end -->' in page.read_text()
    assert re.search(
        r'Seeds 0 to 2.*commit `[0-9a-f]{7}.*3 minutes on 1 thread \(\[record\]\(a.json\)\)', page.read_text()
    )
    assert 'old' not in page.read_text()


def test_pages_agree_with_the_committed_records():
    assert run_tool('experiments/tables.py', '--check') == 0


def test_committed_records_are_valid_and_of_a_commit_without_changes():
    for file in files('configs/*/results/*.json'):
        assert re.fullmatch('[0-9a-f]{7,}', records.read_record(file).commit), file
        script = records.read_record(file).command.split()[1]
        assert (ROOT / script).is_file(), (file, script)


def draw(seed, size):
    return dict(number=random.Random(seed).random() * size)


def test_finished_parts_are_not_computed_again(tmp_path, capsys):
    arguments = {'a': (0, 1), 'b': (1, 1)}
    with first_on_path(TOOLS / 'experiments'):  # for the processes, which import the module by its name
        first = parts.run_parts(draw, arguments, tmp_path, jobs=1)
    assert first['a']['number'] == draw(0, 1)['number'] != first['b']['number']
    (tmp_path / 'a.json').write_text(json.dumps(dict(number=5, seconds=1.5)))
    second = parts.run_parts(draw, arguments, tmp_path, jobs=1)
    assert second['a'] == dict(number=5, seconds=1.5) and second['b'] == first['b']
    assert parts.total_seconds(second) == pytest.approx(1.5 + first['b']['seconds'])
    assert capsys.readouterr().out.count('parts to compute') == 1


def test_a_first_record_is_no_change_of_the_code(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(['git', '-C', tmp_path, '-c', 'user.name=a', '-c', 'user.email=a@b', *words], check=True)

    monkeypatch.setattr(records, 'ROOT', tmp_path)
    (tmp_path / 'configs/dvt/results').mkdir(parents=True)
    (tmp_path / 'configs/dvt/a.py').touch()
    git('init', '-q')
    git('add', '.')
    git('commit', '-qm', 'a')
    (tmp_path / 'configs/dvt/results/a.json').touch()
    assert re.fullmatch('[0-9a-f]{7}', records.commit())
    (tmp_path / 'configs/dvt/b.py').touch()
    assert re.fullmatch(r'[0-9a-f]{7}\+changes', records.commit())


def test_a_number_that_the_record_does_not_have_is_named(tmp_path):
    records.save_record(tmp_path / 'a.json', record())
    (tmp_path / 'page.md').write_text('<!-- value: a.json :: refined :: speed :: mean -->?<!-- end -->')
    with pytest.raises(UserError, match=r"page\.md: a\.json :: refined :: speed :: mean: 'speed' is no metric"):
        tables.updated(tmp_path / 'page.md')

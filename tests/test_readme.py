"""The READMEs' examples of inherited configs are ones."""

import re
from pathlib import Path

import pytest

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.denoiserep import denoise_layers

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
DENOISEREP = (ROOT / 'configs/denoiserep/README.md').read_text()
OVER_HOSTS = re.findall(r"^\| `(\w+::[\w/.-]+)` \| `(r?'[^']*')` \| (\d+) \|$", DENOISEREP, flags=re.MULTILINE)


def example(text: str) -> str:
    """The one config in a README."""
    (found,) = re.findall(r'```python\n(_base_.*?)```', text, flags=re.DOTALL)
    return found


def model_of(text: str, file: Path):
    file.write_text(text)
    return build_model(load_config(str(file)))


def test_the_example_config_builds(tmp_path):
    assert len(denoise_layers(model_of(example(README.read_text()), tmp_path / 'example.py'))) == 24


def test_the_table_has_a_config_of_each_host():
    assert {base.split('::')[0] for base, *_ in OVER_HOSTS} == {'mmpretrain', 'mmdet', 'mmseg', 'mmpose'}


@pytest.mark.parametrize(('base', 'include', 'layers'), OVER_HOSTS, ids=lambda value: value.split('::')[0])
def test_the_example_of_denoiserep_is_one_over_every_host(base, include, layers, tmp_path):
    pytest.importorskip(base.split('::')[0])
    text = example(DENOISEREP)
    swapped = re.sub("_base_ = '.*'", f"_base_ = '{base}'", text).replace("include='mlp'", f'include={include}')
    model = model_of(swapped, tmp_path / 'example.py')
    assert len(denoise_layers(model)) == int(layers)
    plain = model_of(f"_base_ = '{base}'\n", tmp_path / 'plain.py')
    assert isinstance(model, type(plain))
    assert set(model.state_dict()) - model.added_keys == set(plain.state_dict())


def test_commands_name_files_that_exist():
    named = re.findall(r'\b(?:tools|configs)/[\w/.-]+\.(?:py|sh)\b', README.read_text())
    assert len(named) >= 6
    for name in named:
        assert (README.parent / name).is_file(), name

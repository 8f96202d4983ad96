"""The README's example of an inherited config is one."""

import re
from pathlib import Path

from reprefine.engine.build import build_model
from reprefine.engine.launch import load_config
from reprefine.methods.denoiserep import denoise_layers

README = Path(__file__).parents[1] / 'README.md'


def test_the_example_config_builds(tmp_path):
    (example,) = re.findall(r'```python\n(.*?)```', README.read_text(), flags=re.S)
    file = tmp_path / 'example.py'
    file.write_text(example)
    model = build_model(load_config(str(file)))
    assert len(denoise_layers(model)) == 24


def test_commands_name_files_that_exist():
    named = re.findall(r'\b(?:tools|configs)/[\w/.-]+\.(?:py|sh)\b', README.read_text())
    assert len(named) >= 6
    for name in named:
        assert (README.parent / name).is_file(), name

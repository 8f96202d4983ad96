"""The Python code in docs/ runs, block by block, as a reader would type it."""

import re

import pytest

from tests.helpers import errors_page
from tests.helpers.methods_page import PAGE, page
from tests.helpers.repository import ROOT, files

DOCS = [path for path in files('*.md') if path.is_relative_to(ROOT / 'docs')]
# Not those of configs, which tests/combinations trains.
BLOCK = re.compile(r'^```python\n((?!_base_ =).*?)^```$', re.DOTALL | re.MULTILINE)


def padded(text: str, block: re.Match) -> str:
    """Code of a block, on the lines that it has in the document."""
    return '\n' * text.count('\n', 0, block.start(1)) + block[1]


@pytest.mark.parametrize('document', DOCS, ids=lambda path: path.name)
def test_code_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, names = document.read_text(), {'__name__': 'document'}
    for block in BLOCK.finditer(text):
        exec(compile(padded(text, block), str(document), 'exec'), names)  # noqa: S102


def test_each_part_of_the_guide_to_any_model_is_code():
    text = next(path for path in DOCS if path.name == 'denoiserep_any_model.md').read_text()
    code = '\n'.join(block[1] for block in BLOCK.finditer(text))
    for part in ('timm.create_model', 'resnet18(', 'convert(', 'noise_loss(', 'reparameterize(', 'set_phase('):
        assert part in code


def test_the_page_of_methods_lists_their_files():
    assert PAGE.read_text() == page(), 'run make pages'


def test_the_page_of_errors_has_every_message():
    assert errors_page.PAGE.read_text() == errors_page.page(), 'run make pages'
    assert 'the model of the config has no deployable layer' in errors_page.page()

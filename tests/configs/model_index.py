"""Writes ``model-index.yml``, by which OpenMMLab's tools find the metafiles.

Run ``python -m tests.configs.model_index --write``.
"""

from tests.configs.brief import ROOT
from tests.helpers.pages import write_as_tool

INDEX = ROOT / 'model-index.yml'
METAFILES = sorted((ROOT / 'configs').rglob('metafile.yml'))


def model_index() -> str:
    """Return the text of the index."""
    return 'Import:\n' + ''.join(f'  - {file.relative_to(ROOT).as_posix()}\n' for file in METAFILES)


if __name__ == '__main__':
    write_as_tool(INDEX, model_index, __spec__.name)

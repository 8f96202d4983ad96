"""Writes ``model-index.yml``, by which OpenMMLab's tools find the metafiles.

Run ``python -m tests.configs.model_index --write``.
"""

import sys

from tests.configs.brief import ROOT

INDEX = ROOT / 'model-index.yml'
METAFILES = sorted((ROOT / 'configs').rglob('metafile.yml'))


def model_index() -> str:
    """Return the text of the index."""
    return 'Import:\n' + ''.join(f'  - {file.relative_to(ROOT).as_posix()}\n' for file in METAFILES)


if __name__ == '__main__':
    if sys.argv[1:] != ['--write']:
        sys.exit('usage: python -m tests.configs.model_index --write')
    INDEX.write_text(model_index())

"""Sphinx extension that includes Markdown pages of the repository, with their links changed to fit the site.

A page of the site that begins with an ``{include}`` directive shows the file that it names. Links to files shown in
the same way lead to their pages; links to other files of the repository become downloads.
"""

import os
import re
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r'\A```\{include\} (\S+)\n```\n')
LINK = re.compile(r'(?<!`)(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)')
FENCE = re.compile(r'(^```.*?^```)', re.MULTILINE | re.DOTALL)


def included_file(page: Path) -> Path | None:
    """Return the file that a page of the site includes; None for a page with a text of its own."""
    match = INCLUDE.match(page.read_text())
    return (page.parent / match[1]).resolve() if match else None


@cache
def page_of() -> dict[Path, Path]:
    """Return the page of the site by the file that it includes."""
    pages = [page for page in DOCS.rglob('*.md') if '_build' not in page.parts]
    return {file: page for page in pages if (file := included_file(page))}


def fit_link(match: re.Match, source: Path, page: Path) -> str:
    """Return a link of ``source`` as it must be on ``page``.

    Args:
        match: Match of ``LINK``.
        source: File that the link was written in.
        page: Page of the site that shows the file.
    """
    mark, text, target = match.groups()
    file, _, anchor = target.partition('#')
    if '://' in target or target.startswith('mailto:') or not file:
        return match[0]
    path = (source.parent / file).resolve()
    path = page_of().get(path / 'README.md' if path.is_dir() else path, path)
    if path.is_dir():
        return text  # of a folder without a page
    return f'{mark}[{text}]({os.path.relpath(path, page.parent)}{"#" * bool(anchor)}{anchor})'


def fit_text(text: str, source: Path, page: Path) -> str:
    """Return the text of ``source`` with its links as they must be on ``page``; code is left as it is."""
    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(lambda match: fit_link(match, source, page), part) for part in parts[::2]]
    return ''.join(parts)


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the directive of a page that includes a file by its text, and fit the links of every page."""
    page = Path(app.env.doc2path(name))
    if page.suffix != '.md':
        return
    file = included_file(page)
    if file:
        app.env.note_dependency(str(file))
        source[0] = fit_text(file.read_text(), file, page) + INCLUDE.sub('\n', source[0])
    else:
        source[0] = fit_text(source[0], page, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect('source-read', read_page)
    return dict(parallel_read_safe=True, parallel_write_safe=True)

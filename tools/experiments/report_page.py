"""The report of the tour: Markdown, and one self-contained HTML page."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from sections.section import Section

from reprefine.engine.files import atomic_write

INTRODUCTION = """# Five methods that refine representations, on real images

`make demo` computed all numbers and figures of this page on this computer, from small checkpoints that the repository
ships and on images that Python packages ship. They show what each method does, not the benchmarks of the papers.
"""
STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 4rem; background: #fff; color: #1c2430;
  font: 1rem/1.6 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { font-size: 1.3rem; margin-top: 3rem; padding-top: 1rem; border-top: 1px solid #d5dbe3; }
h3 { font-size: 1.05rem; margin-bottom: .3rem; }
img { display: block; max-width: 100%; height: auto; margin: 1.2rem auto .4rem; }
p em:only-child { color: #4a5565; }
code { background: #f0f3f7; border-radius: 3px; padding: .1em .3em; font-size: .88em; }
pre { background: #f0f3f7; border-radius: 6px; padding: .8rem 1rem; overflow-x: auto; line-height: 1.45; }
pre code { padding: 0; background: none; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid #d5dbe3; text-align: left; }
td { white-space: nowrap; font-variant-numeric: tabular-nums; }
a { color: #0b5cad; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""


def section_text(title: str, section: Section, folder: Path) -> str:
    """Return the Markdown of one section; figures are linked relative to ``folder``."""
    figures = '\n\n'.join(
        f'![{figure.caption}]({figure.file.relative_to(folder).as_posix()})\n\n*{figure.caption}*'
        for figure in section.figures
    )
    return f"""## {title}

### What you see

{section.what.strip()}

{figures}

### Beside its control

{section.number.strip()}

### Limits

{section.limits.strip()}

### The full experiment

`{section.experiment}`, about {section.minutes} minutes on 2 cores.

### With your own model

{section.own_model.strip()}
"""


def report_text(sections: Mapping[str, Section], folder: Path, closing: str) -> str:
    """Return the report as Markdown.

    Args:
        sections: Sections by title.
        folder: Folder of the report, which holds all figures.
        closing: Last paragraph: versions, time and threads.
    """
    contents = '\n'.join(f'- [{title}](#{anchor(title)})' for title in sections)
    texts = [section_text(title, section, folder) for title, section in sections.items()]
    return '\n'.join([INTRODUCTION, contents, '', *texts, closing]) + '\n'


def anchor(title: str) -> str:
    """Return the anchor that GitHub gives a title."""
    return re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-')


def html_page(text: str, folder: Path) -> str:
    """Return a report as one HTML page that holds its style and its figures.

    Args:
        text: Report as Markdown.
        folder: Folder that the links to figures are relative to.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt('commonmark', {'html': False}).enable('table').render(text)
    body = re.sub(r'<h2>(.*?)</h2>', lambda match: f'<h2 id="{anchor(match[1])}">{match[1]}</h2>', body)
    body = re.sub(r'src="([^":]+\.png)"', lambda match: f'src="{_data_uri(folder / match[1])}"', body)
    return PAGE.format(title=text.partition('\n')[0].removeprefix('# '), style=STYLE, body=body)


def _data_uri(file: Path) -> str:
    return f'data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}'


def write_report(sections: Mapping[str, Section], folder: Path, closing: str) -> None:
    """Write ``report.md`` and ``report.html``; arguments as in :func:`report_text`."""
    text = report_text(sections, folder, closing)
    for name, content in (('report.md', text), ('report.html', html_page(text, folder))):
        with atomic_write(folder / name) as partial:
            Path(partial).write_text(content)

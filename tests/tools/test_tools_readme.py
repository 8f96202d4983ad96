"""tools/README.md lists every tool once."""

import re

from tests.helpers.run_tool import TOOLS

ROW = re.compile(r'^\| `([\w/.-]+)[^`]*` \| (.+) \|$', re.MULTILINE)


def test_every_tool_is_listed_once_with_its_purpose():
    listed = ROW.findall((TOOLS / 'README.md').read_text())
    scripts = [path for path in TOOLS.rglob('*.py') if "if __name__ == '__main__':" in path.read_text()]
    expected = sorted(path.relative_to(TOOLS).as_posix() for path in (*scripts, *TOOLS.rglob('*.sh')))
    assert len(expected) > 60
    assert sorted(name for name, _ in listed) == expected
    assert all(purpose.strip() for _, purpose in listed)


def test_tools_are_listed_in_the_section_of_their_folder():
    sections = re.split(r'^## (.+)$', (TOOLS / 'README.md').read_text(), flags=re.MULTILINE)[1:]
    for title, text in zip(sections[::2], sections[1::2], strict=True):
        folders = {name.rpartition('/')[0] for name, _ in ROW.findall(text)}
        assert folders == ({''} if title == 'Training and test' else {title})


def test_the_readme_of_the_repository_links_to_the_list():
    assert '(tools/README.md)' in (TOOLS.parent / 'README.md').read_text()

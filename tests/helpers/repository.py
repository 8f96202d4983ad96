"""The files of the repository."""

import subprocess
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]


def files(*patterns: str) -> list[Path]:
    """Files of the repository, committed or about to be."""
    command = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked archive
        skip = {'.venv', '.venv-forks', 'work_dirs', '.git', '.mim'}
        top = [path for path in ROOT.iterdir() if path.name not in skip]
        below = [
            path
            for folder in top
            if folder.is_dir()
            for path in folder.rglob('*')
            if not skip & set(path.relative_to(ROOT).parts)
        ]
        names = {path.relative_to(ROOT).as_posix(): path for path in (*top, *below)}
        found = [path for name, path in names.items() if any(fnmatch(name, pattern) for pattern in patterns)]
    else:
        found = [ROOT / name for name in listed.stdout.split('\0') if name]
    return sorted({path for path in found if path.is_file()})

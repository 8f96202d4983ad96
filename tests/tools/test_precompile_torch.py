"""Precompiled headers for mmcv: used by torch's build of an extension, and removed if the compiler cannot use them."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools/misc/precompile_torch.py'
# A small header instead of torch's, and an extension instead of mmcv, which sets the C++ standard likewise.
BUILD = """
import runpy, sys
tool = runpy.run_path(sys.argv[1])
tool['main'].__globals__['HEADER'] = '#include <cstddef>\\n'
tool['main']('torch headers.h')
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension
import os
os.environ['CPPFLAGS'] += ' -include "' + os.path.abspath('torch headers.h') + '" -Werror=invalid-pch'
extension = CppExtension('small', ['small.cpp'], extra_compile_args={'cxx': ['-std=c++17']})
setup(name='small', ext_modules=[extension], cmdclass={'build_ext': BuildExtension}, script_args=['build_ext'])
"""


def is_gcc() -> bool:
    compiler = os.environ.get('CXX', 'c++')
    if not shutil.which(compiler):
        return False
    return 'Free Software' in subprocess.run([compiler, '--version'], capture_output=True, text=True).stdout


@pytest.mark.skipif(not is_gcc(), reason='needs g++')
def test_build_of_an_extension_takes_the_precompiled_header(tmp_path):
    (tmp_path / 'small.cpp').write_text('std::size_t small() { return 1; }\n')
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    environment = os.environ | {'PATH': path, 'CFLAGS': '-O0 -g', 'CPPFLAGS': '-g0 -DMINE=1'}
    command = [sys.executable, '-c', BUILD, TOOL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (tmp_path / 'torch headers.h.gch').exists(), done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def precompile(tmp_path, monkeypatch):
    """Run the tool with a fake compiler; returns the header and the calls of the compiler."""

    def run(script: str) -> tuple[Path, list[str]]:
        compiler, calls = tmp_path / 'compiler', tmp_path / 'calls'
        compiler.write_text(f'#!/bin/bash\necho "$*" >>{calls}\n{script}\n')
        compiler.chmod(0o755)
        monkeypatch.setenv('CXX', f'{compiler} -m64')
        header = tmp_path / 'torch.h'
        runpy.run_path(str(TOOL))['main'](str(header))
        return header, calls.read_text().splitlines()

    return run


GCC = '[[ $* == *--version ]] && echo "Free Software Foundation" && exit; [[ $* == *.gch ]] && touch "${*: -1}"\n'


def test_an_unusable_precompiled_header_is_removed(precompile):
    header, calls = precompile(GCC + '[[ $* != *-Werror=invalid-pch* ]]')
    assert len(calls) == 3
    assert header.exists()
    assert not header.with_suffix('.h.gch').exists()


def test_a_full_disk_keeps_the_header(precompile):
    header, _ = precompile(GCC + 'exit 1')
    assert header.exists()
    assert not header.with_suffix('.h.gch').exists()


def test_only_gcc_precompiles(precompile):
    header, calls = precompile('echo clang version 17')
    assert calls == ['-m64 --version']
    assert header.exists()


@pytest.mark.skipif(not is_gcc(), reason='needs g++')
@pytest.mark.parametrize('language', ['c', 'c++'])
def test_header_compiles_without_torch(precompile, language):
    header, _ = precompile('')
    command = [os.environ.get('CC', 'gcc'), '-x', language, '-include', header, '-fsyntax-only', os.devnull]
    assert subprocess.run(command, check=False).returncode == 0

"""Precompiles torch's headers, as `install.sh` does before mmcv: `precompile_torch.py HEADER`.

Parsing them takes most of the time of compiling a file that uses torch. This writes HEADER, to be passed to the
compiler with `-include`, and for GCC also HEADER.gch. GCC uses the latter if the compilation has the same flags, and
parses the headers otherwise; the compiled code is the same.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from distutils.ccompiler import new_compiler  # of setuptools, even if Python has its own
from distutils.sysconfig import customize_compiler

from torch.utils.cpp_extension import include_paths

# It is included in every file, also in C files and files that are compiled without torch.
HEADER = """\
#if defined(__cplusplus) && __has_include(<torch/types.h>)
#include <torch/types.h>
#endif
"""


def build_flags() -> list[str]:
    """Return the flags that setuptools passes to torch's build of an extension, with CFLAGS and CPPFLAGS."""
    compiler = new_compiler()
    customize_compiler(compiler)
    include = [f'-I{path}' for path in (*include_paths(), sysconfig.get_path('include'))]
    return [*compiler.compiler_so[1:], *include, '-std=c++17']


def main(header: str) -> None:
    """Write ``header`` and, if the compiler is a GCC that can use it, ``header``.gch."""
    with open(header, 'w') as file:
        file.write(HEADER)
    compiler = shlex.split(os.environ.get('CXX', 'c++'))
    version = subprocess.run([*compiler, '--version'], capture_output=True, text=True, check=False).stdout
    if 'Free Software Foundation' not in version:
        return
    command, compiled = [*compiler, *build_flags()], f'{header}.gch'
    trial = ['-include', header, '-Werror=invalid-pch', '-fsyntax-only', '-x', 'c++', os.devnull]
    for arguments in (['-x', 'c++-header', header, '-o', compiled], trial):
        if subprocess.run([*command, *arguments], check=False).returncode and os.path.exists(compiled):
            os.remove(compiled)


if __name__ == '__main__':
    main(sys.argv[1])

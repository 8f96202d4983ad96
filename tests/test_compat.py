"""The repairs of the host libraries."""

import colorsys
import os
import subprocess
import sys

import numpy as np
import pytest

import reprefine.registry  # noqa: F401, applies them


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('factor', [-0.5, -0.2, -0.004, 0.0, 0.3])
def test_hues_turn_both_ways(backend, factor):
    import mmcv

    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    turned = mmcv.adjust_hue(image, factor, backend=backend)
    for before, after in zip(image.reshape(-1, 3), turned.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before[::-1] / 255)
        expected = 255 * np.array(colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value))[::-1]
        np.testing.assert_allclose(after, expected, atol=14)  # a step of 256 hues is six levels


def test_one_line_of_a_host_config_makes_loading_safe(tmp_path):
    """Before anything of the package but its import is used, and against the environment."""
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['reprefine'])\n")
    (tmp_path / 'a.yaml').write_text(f'!!python/object/apply:os.mkdir [{tmp_path / "created"}]')
    code = (
        'import torch, mmengine\n'
        'from mmengine.config import Config\n'
        'Config.fromfile("config.py")\n'
        'torch.save(dict(a=torch.nn.Linear(1, 1)), "a.pth")\n'
        'for read in (lambda: torch.load("a.pth", weights_only=False), lambda: mmengine.load("a.yaml")):\n'
        '    try:\n'
        '        read()\n'
        '    except Exception as error:\n'
        '        print(type(error).__name__)\n'
    )
    environment = os.environ | {'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1'}
    environment.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    output = subprocess.check_output([sys.executable, '-c', code], text=True, cwd=tmp_path, env=environment)
    assert output.split() == ['UnpicklingError', 'UserError']
    assert not (tmp_path / 'created').exists()


def test_the_repair_is_applied_once():
    import mmcv

    from reprefine.compat import repair_adjust_hue

    before = mmcv.adjust_hue
    repair_adjust_hue()
    assert mmcv.adjust_hue is before is mmcv.image.adjust_hue


def test_the_text_of_a_config_is_formatted_once_and_as_mmengine_does():
    from mmengine.config import Config, config
    from yapf.yapflib.yapf_api import FormatCode

    cfg = Config(dict(model=dict(type='A', widths=list(range(40))), name='a' * 90))
    style = dict(
        based_on_style='pep8',
        blank_line_before_nested_class_or_def=True,
        split_before_expression_after_opening_paren=True,
    )
    assert cfg.pretty_text == FormatCode(cfg.pretty_text, style_config=style)[0]
    assert len(cfg.pretty_text.splitlines()) > 3
    # The fork's module has no formatter of its own that could be kept from working twice.
    assert (cfg.pretty_text is cfg.pretty_text) == hasattr(config, 'FormatCode')
    former = cfg.pretty_text
    cfg.model.widths[0] = 7
    assert cfg.pretty_text == former.replace('0,', '7,', 1)


def test_a_mmengine_that_imports_the_formatter_elsewhere_is_left_to_it():
    """As the fork's does."""
    code = (
        'from mmengine.config import config\n'
        'vars(config).pop("FormatCode", None)\n'
        'import reprefine\n'
        'print(hasattr(config, "FormatCode"), config.is_installed.cache_info().currsize)'
    )
    assert subprocess.check_output([sys.executable, '-c', code], text=True).split() == ['False', '0']


def test_inheriting_by_package_says_nothing_of_pkg_resources(tmp_path):
    (tmp_path / 'a.py').write_text("_base_ = 'mmpretrain::_base_/default_runtime.py'\n")
    code = "import reprefine; from mmengine.config import Config; Config.fromfile('a.py')"
    command = [sys.executable, '-W', 'always', '-c', code]
    result = subprocess.run(command, text=True, capture_output=True, cwd=tmp_path, check=True)
    assert 'pkg_resources' not in result.stderr

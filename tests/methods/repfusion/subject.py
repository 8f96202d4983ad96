"""The training of RepFusion that the tests of guarantees run."""

from tests.methods.repfusion.tiny import tiny_teacher_folder

CONFIG = 'repfusion/distill/resnet14-narrow_repfusion-rl-hint_30e_mnist5k-32px'
CHANGES = """
model = dict(teacher=dict(source='{teacher}', layers=[['mid_block.resnets.1.conv2', 16]]))
custom_hooks[-1].update(warmup_epochs=1)
"""


def values() -> dict[str, str]:
    """Return what stands for the names in braces."""
    return dict(teacher=tiny_teacher_folder())

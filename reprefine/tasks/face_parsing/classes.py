"""The parts of a face in CelebAMask-HQ, in the order in which their masks are painted over each other."""

from collections.abc import Sequence

# The label of a part is its position, counted from 1; 0 is the background. The script of the dataset's authors numbers
# the same parts in another order.
PARTS = (
    'skin', 'l_brow', 'r_brow', 'l_eye', 'r_eye', 'eye_g', 'l_ear', 'r_ear', 'ear_r',
    'nose', 'mouth', 'u_lip', 'l_lip', 'neck', 'neck_l', 'cloth', 'hair', 'hat',
)  # fmt: skip
CLASSES = ('background', *PARTS)
PALETTE = [
    [0, 0, 0], [0, 192, 64], [192, 64, 0], [0, 64, 96], [128, 192, 192], [0, 64, 64], [0, 192, 224], [0, 192, 192],
    [128, 192, 64], [0, 192, 96], [224, 160, 0], [128, 32, 192], [0, 0, 224], [0, 0, 64], [0, 160, 192], [128, 0, 96],
    [128, 0, 192], [0, 32, 192], [128, 128, 224],
]  # fmt: skip
LEFT_RIGHT = (('l_brow', 'r_brow'), ('l_eye', 'r_eye'), ('l_ear', 'r_ear'))


def left_right_labels(classes: Sequence[str]) -> list[tuple[int, int]]:
    """Return the labels to swap when a face is flipped horizontally.

    Args:
        classes: Class names in the order of their labels.

    Returns:
        Pairs of labels of the parts of which both sides are among the classes.
    """
    return [(classes.index(left), classes.index(right)) for left, right in LEFT_RIGHT if {left, right} <= set(classes)]

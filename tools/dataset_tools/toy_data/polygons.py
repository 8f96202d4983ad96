"""Masks as COCO writes them: polygons, and run lengths for crowds."""

import cv2
import numpy as np

# Contours run through pixel centres; on a finer grid they come this close (in pixels, inverse) to the pixels' edges.
FINER = 4


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Outline a mask. One with holes is cut through them, since polygons cannot have any.

    Args:
        mask: Bool of shape (H, W).

    Returns:
        Polygons, each a list x, y, x, y, … of at least three points in pixel edges.
    """
    fine = mask.astype(np.uint8).repeat(FINER, 0).repeat(FINER, 1)
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = [] if hierarchy is None else hierarchy[0, :, 3]
    for contour, parent in zip(contours, parents, strict=True):
        if parent >= 0:  # the rim of a hole
            x, _, width, _ = cv2.boundingRect(contour)
            cut = (x + width // 2) // FINER
            left = mask & (np.arange(mask.shape[1]) < cut)
            return mask_to_polygons(left) + mask_to_polygons(mask & ~left)
    return [((contour.reshape(-1) + 0.5) / FINER).tolist() for contour in contours]


def run_lengths(mask: np.ndarray) -> dict:
    """Encode a mask as uncompressed run lengths.

    Args:
        mask: Bool of shape (H, W).

    Returns:
        ``size`` (H, W) and ``counts``: lengths of the runs, column by column, the first one outside the mask.
    """
    flat = mask.ravel(order='F')
    ends = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
    return dict(size=list(mask.shape), counts=np.diff(ends, prepend=0).tolist())

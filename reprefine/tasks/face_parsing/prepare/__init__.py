"""Conversion of CelebAMask-HQ into label maps and split lists."""

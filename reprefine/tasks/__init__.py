"""Datasets, heads, metrics and converters of the tasks, as far as OpenMMLab lacks them; README.md lists the files."""

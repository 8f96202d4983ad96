"""Checks of datasets and samples: unreadable files, class names, label ranges, data folders.

Serves "Samples that cannot be read" and "Bad input" of docs/reliability.md. Costs about a tenth of the reading of a
batch: a pipeline that remembers its files, and the labels compared with the classes.
"""

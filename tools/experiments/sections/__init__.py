"""Sections of the tour, one file a method, in the order in which they are shown."""

NAMES = ('dvt', 'denoiserep', 'pddr', 'repfusion', 'feature_transform')

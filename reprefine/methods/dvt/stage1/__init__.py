"""Stage 1: per-image decomposition of features into semantics, artifact and residual.

In the order of the data: ``views``, ``features``, ``solvers``, ``storage``; ``pipeline`` composes them,
``denoise_list`` runs them over a list of images.
"""

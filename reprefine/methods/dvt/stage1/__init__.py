"""Stage 1: the features of one image split into content, position pattern and residual."""

"""Training of noise predictors: by alternating phases, or in closed form from feature moments."""

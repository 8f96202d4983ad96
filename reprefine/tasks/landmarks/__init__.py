"""Facial landmarks: the error rates of WFLW, and its test subsets."""

from .metric import LandmarkErrorRates

__all__ = ['LandmarkErrorRates']

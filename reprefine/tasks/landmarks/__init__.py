"""Facial landmarks: failure rate and AUC of WFLW, and its test subsets."""

from .metrics import LandmarkErrorRates

__all__ = ['LandmarkErrorRates']

"""Conversion of downloaded classification datasets into image lists and class folders."""

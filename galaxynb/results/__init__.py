"""Notebook 05: the paper's tables, accuracy and recovery, image quality, and the spread over sweeps.

Import functions from the modules; this file exports none.
"""

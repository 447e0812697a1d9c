"""Notebook 01: get a file in the Galaxy10 DECaLS layout, check it, shrink it, split it and audit it.

Import functions from the modules; this file exports none.
"""

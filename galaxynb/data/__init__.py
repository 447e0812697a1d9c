"""Notebook 01: download a file in the Galaxy10 DECaLS layout, check, shrink, split and audit it.

Import functions from the modules: this file exports none.
"""

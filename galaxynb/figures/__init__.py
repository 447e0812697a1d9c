"""The figures of the study, in one module for each kind. Nothing here computes a result.

Import functions from the modules; this file exports none.
"""

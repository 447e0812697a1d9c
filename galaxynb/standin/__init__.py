"""The synthetic sky: a stand-in for the published file, and measurements of how close it comes.

Import functions from the modules: this file exports none.
"""

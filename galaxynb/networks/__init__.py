"""Notebooks 03 and 04: the classifier, the autoencoder, their training batches and their training.

Import functions from the modules; this file exports none.
"""

"""Remedies for a classifier of noisy images, measured side by side (notebook 06)."""

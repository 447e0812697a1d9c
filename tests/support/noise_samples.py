"""A noise of many small, sharp stars, whatever the defaults of `NoiseModel` are."""

from dataclasses import replace

from galaxynb.noise import NoiseModel

SMALL_STARS = NoiseModel(sigma=0.15, n_stars=(14, 56), radius=(0.014, 0.033), brightness=(0.5, 1.0), blur=(0.02, 0.07))
#: Few large, soft spots, a factor on everything, and a weak Gaussian.
LARGE_SPOTS = NoiseModel(
    strength=1.4, sigma=0.02, n_stars=(4, 16), radius=(0.06, 0.12), brightness=(0.3, 0.8), blur=(0.1, 0.2)
)


def small_stars(**changes):
    """Return `SMALL_STARS` with other values."""
    return replace(SMALL_STARS, **changes)

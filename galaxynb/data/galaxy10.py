"""Layout of Galaxy10 DECaLS: columns, classes and class counts of the published file.

The writer of stand-ins (`galaxynb.standin.make`) and the reader of files (`galaxynb.data.catalog`) share this
definition. This module opens no file.

References
----------
Leung, H. & Bovy, J., *Galaxy10 DECaLS*, zenodo.org/records/10845026.
"""

__all__ = [
    "CLASS_COUNTS",
    "CLASS_NAMES",
    "FLOAT_COLUMNS",
    "GALAXY10_FILE",
    "GALAXY10_SHA256",
    "GALAXY10_URLS",
    "IMAGES",
    "LABELS",
    "PUBLISHED_SIDE",
    "ROWS_SHA256",
    "STANDIN_ATTRIBUTE",
    "TRUTH",
]


#: Name of the published file.
GALAXY10_FILE = "Galaxy10_DECals.h5"

#: The published file, and the copy at its authors' university, which astroNN downloads and checks against the same sum.
GALAXY10_URLS = (
    "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5",
    "https://www.astro.utoronto.ca/~hleung/shared/Galaxy10/Galaxy10_DECals.h5",
)

GALAXY10_SHA256 = "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571"


CLASS_NAMES = (
    "Disturbed",
    "Merging",
    "Round Smooth",
    "In-between Round Smooth",
    "Cigar Shaped Smooth",
    "Barred Spiral",
    "Unbarred Tight Spiral",
    "Unbarred Loose Spiral",
    "Edge-on without Bulge",
    "Edge-on with Bulge",
)


#: Number of images per class in the published file, which is sorted by class.
CLASS_COUNTS = (1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873)


#: Side of the published images in pixels. The stand-in's are as large.
PUBLISHED_SIDE = 256


#: SHA256 of the classes and rounded coordinates of the published rows, in order (`galaxynb.data.splits`).
ROWS_SHA256 = "87d376f8c3906554f69ac035e49a031d80ab05e184cce28793d60ed960d4871f"


IMAGES = "images"  # uint8, shape (N, H, H, 3): R, G, B show the bands z, r, g

LABELS = "ans"  # uint8, shape (N,): classes 0 to 9

# float64, shape (N,): degrees, degrees, no unit, arcsec/px
FLOAT_COLUMNS = ("ra", "dec", "redshift", "pxscale")


#: Only stand-ins hold these: the noise-free images, and the file attribute that names what made the file.
TRUTH = "truth"

STANDIN_ATTRIBUTE = "galaxynb_standin"

"""Does denoising save a galaxy classifier? The package behind the notebooks.

Modules stand in the order the data flows, and none imports a later one:
`layout`, `files` and `compute` (what a Galaxy10 DECaLS file looks like, how files are written, what a machine offers),
`measure` (what a cutout looks like), `recipes`, `render` and `simulate` (the stand-in), `data`, `closeness`,
`noise`, `noise_ops`, `models`, `ondevice`, `training`, `evaluation`, `figures`, `provenance`.
Importing the package does no work and imports none of them.
"""

__version__ = "0.1.0"

"""Does denoising save a galaxy classifier? The package behind the notebooks.

Each folder serves one notebook or one job: `data` (01), `noise` (02), `networks` (03 and 04), `results` (05), `standin`
(the synthetic sky) and `figures`. No module imports a later stage, and importing the package imports none of them.
"""

__version__ = "0.1.0"

"""Does denoising save a galaxy classifier? The functions that the notebooks call.

Each part serves one notebook or one task: `data` (notebook 01), `noise` (02), `networks` (03 and 04), `results` (05),
`standin` (the synthetic sky) and `figures`. No module imports a module of a later stage. Importing `galaxynb` imports
none of them.
"""

__version__ = "0.1.0"

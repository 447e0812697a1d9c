"""A remedy of your own: OpenCV's bilateral filter, which smooths but keeps edges."""

import cv2
import numpy as np


def bilateral(images):
    """Smooth images of float32 in [0, 1], shape (N, H, H, 3), but keep their edges."""
    return np.stack([cv2.bilateralFilter(image, 5, 0.1, 2) for image in images])

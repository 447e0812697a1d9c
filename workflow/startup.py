"""Start Keras without the messages of TensorFlow's libraries, for programs that users read in a terminal."""

import os
import sys
from pathlib import Path


def start_keras():
    """Import Keras and find the devices. Hide what the libraries print meanwhile; exceptions are not hidden."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        import keras

        keras.ops.zeros(1)  # finds the devices
    finally:
        os.dup2(kept, 2)
        os.close(kept)

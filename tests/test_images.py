"""8-bit images are scaled to floats from 0 to 1."""

import numpy as np
import pytest

from galaxynb.images import to_float


def test_to_float_scales_every_value():
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    scaled = to_float(images)
    assert scaled.dtype == np.float32
    assert scaled.shape == images.shape
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_array_equal(np.rint(scaled * 255), images)
    out = np.empty(images.shape, np.float32)
    assert to_float(images, out=out) is out
    np.testing.assert_array_equal(out, scaled)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_to_float_refuses_what_is_not_8_bit(dtype):
    with pytest.raises(TypeError, match=rf"(?=.*uint8).*{np.dtype(dtype)}"):
        to_float(np.zeros((2, 2), dtype))

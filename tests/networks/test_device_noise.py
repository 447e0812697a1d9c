"""The noise in Keras operations agrees with OpenCV's, star by star and in distribution.

Seeds are fixed, so each test passes always or never. Each statistical test has a level of 0.001 over all its
comparisons. For each, another test shows that it detects distributions with stated errors.
"""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from keras import ops
from noise_samples import LARGE_SPOTS, SMALL_STARS, small_stars
from scipy import stats

from galaxynb.networks import device_noise
from galaxynb.networks.device_noise import DeviceNoise
from galaxynb.noise import STAR_COLOURS, STAR_DTYPE, NoiseModel, blur_layer, draw_layers, star_disks

MODEL = SMALL_STARS
STARS_ONLY = small_stars(sigma=0)
LEVEL = 1e-3
SIDES = (64, 128)
MARGIN = 24  # pixels around a frame in which no disk is cut


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


def grey(n, side=32, value=0.5):
    return np.full((n, side, side, 3), value, np.float32)


class Noisy(keras.layers.Layer):
    """Layer that adds noise."""

    def __init__(self, noise, seed=0):
        super().__init__()
        self.noise = noise
        self.seed_generator = generator(seed)
        self.batches, self.dtypes = set(), set()

    def call(self, images):
        noisy = self.noise(images, self.seed_generator)
        self.batches.add(images.shape[0])
        self.dtypes.add((keras.backend.standardize_dtype(images.dtype), keras.backend.standardize_dtype(noisy.dtype)))
        return noisy


def model_of(noise, *layers, **kwargs):
    """Compile a network that begins with a `Noisy`."""
    model = keras.Sequential([keras.Input((noise.noise.side, noise.noise.side, 3)), noise, *layers])
    model.compile(loss="mse", **kwargs)
    return model


def made(noise, images, seed=0, batch_size=64):
    """Apply noise as a compiled model does."""
    return model_of(Noisy(noise, seed)).predict(images, batch_size=batch_size, verbose=0)


def drawn(noise, n, seed=0):
    """Draw the stars of `n` images, as NumPy."""
    return {name: ops.convert_to_numpy(values) for name, values in noise.stars(n, generator(seed)).items()}


def reference_stars(model, n, side, seed=0):
    """Draw the stars of the reference (`NoiseModel`): one array of `STAR_DTYPE` per image."""
    rng = np.random.default_rng(seed)
    return [model._draw_stars([rng], side)[0] for _ in range(n)]


def as_tensors(stars, most):
    """Convert arrays of `STAR_DTYPE`, one per image, to the input of `DeviceNoise.render`."""
    padded = np.zeros((len(stars), most), STAR_DTYPE)
    for row, array in zip(padded, stars, strict=True):
        row[: len(array)] = array
    values = {name: padded[name] for name in STAR_DTYPE.names}
    values["present"] = np.arange(most) < np.array([len(array) for array in stars])[:, None]
    return {name: ops.convert_to_tensor(array) for name, array in values.items()}


def reference_layers(stars, side, cut=False):
    """Draw and blur each image's stars with OpenCV: float32 in levels of 255.

    Without `cut`, disks are drawn in a larger frame, because OpenCV draws disks that the frame cuts too faint.
    """
    margin = 0 if cut else MARGIN
    total = np.zeros((len(stars), side, side, 3), np.float32)
    for image, array in zip(total, stars, strict=True):
        moved = array.copy()
        for axis in "xy":
            moved[axis] = np.round(16 * array[axis]) / 16 + margin
        for kernel in map(int, np.unique(array["kernel"])):
            layer = draw_layers(star_disks(moved[array["kernel"] == kernel]), side + 2 * margin)[kernel]
            layer = layer[margin : margin + side, margin : margin + side].copy()
            image += blur_layer(layer, kernel)
    return total


def rendered(noise, stars):
    """Render an image for each array of `STAR_DTYPE`, in levels of 255."""
    render = noise.render
    if keras.backend.backend() == "jax":
        import jax  # not installed everywhere

        render = jax.jit(render)  # otherwise jax compiles each operation separately, which takes longer
    return 255 * ops.convert_to_numpy(render(as_tensors(stars, noise.most)))


# --- star by star: the reference's stars, drawn by both

# In levels of 255. OpenCV rounds to 8 bits: in each layer (two at 64 px, four at 128 px) the blur can cause an error of
# half a level, and the blending of overlapping disks about one level.
MOST_OFF = 2.5
MOST_RMS = 0.25


@pytest.fixture(scope="module", params=SIDES)
def scene(request):
    """Return a side, the noise, the stars of 24 images and OpenCV's drawing of them."""
    side = request.param
    stars = reference_stars(STARS_ONLY, 23, side, seed=1)
    # Add stars on each corner and edge and beyond, which are otherwise rare.
    edge = np.resize(stars[0], 16)
    edge["x"], edge["y"] = np.array(np.meshgrid(*[[-0.5, 0.3, side / 3, side - 0.51]] * 2)).reshape(2, -1)
    stars.append(edge)
    return side, DeviceNoise(STARS_ONLY, side), stars, reference_layers(stars, side)


def off(one, other):
    """Return the largest and the root mean square difference."""
    return np.abs(one - other).max(), np.sqrt(np.mean((one - other) ** 2))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brightness", lambda values: 0.97 * values),
        ("radius", lambda values: values + 1 / 16),
        ("x", lambda values: values + 1 / 16),
        ("y", lambda values: values - 1 / 16),
        ("kernel", lambda values: np.where(values == 3, 5, values)),
        ("kernel", lambda values: np.where(values == 5, 3, values)),
        ("rgb", lambda values: values[:, ::-1]),
        (list(STAR_DTYPE.names), lambda values: values[::-1]),
    ],
    ids=["brightness", "radius", "x", "y", "blurrier", "sharper", "colours", "order"],
)
def test_a_small_difference_between_stars_would_be_seen(scene, name, change):
    """What the next test tells apart: 3 % of brightness, 1/16 px, one kernel size, who covers whom."""
    _, noise, stars, expected = scene
    changed = [array.copy() for array in stars]
    for array in changed:
        array[name] = change(array[name].copy())
    greatest, rms = off(rendered(noise, changed), expected)
    assert greatest > 2 * MOST_OFF
    assert rms > 2 * MOST_RMS


def test_stars_are_drawn_as_opencv_draws_them_and_an_overlap_that_adds_up_would_be_seen(scene, monkeypatch):
    _, noise, stars, expected = scene
    greatest, rms = off(rendered(noise, stars), expected)
    assert greatest < MOST_OFF
    assert rms < MOST_RMS
    monkeypatch.setattr(device_noise, "_uncovered", lambda *_: 1.0)
    assert off(rendered(noise, stars), expected)[0] > 10 * MOST_OFF


@pytest.mark.parametrize("border", [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT])
def test_another_border_would_be_seen(scene, border, monkeypatch):
    side, noise, stars, expected = scene
    wrong = np.zeros_like(noise._lines)
    for lines, kernel in zip(wrong, noise._kernels, strict=True):
        line = np.eye(side, dtype=np.float32)
        lines[noise._margin : -noise._margin] = cv2.GaussianBlur(line, (kernel, 1), 0, borderType=border)
    monkeypatch.setattr(noise, "_lines", wrong)
    assert off(rendered(noise, stars), expected)[0] > 4 * MOST_OFF


def test_a_single_star_of_each_kernel_has_opencvs_profile(scene):
    """A single star well inside the frame agrees with the reference to about one level, for any radius and position."""
    side, noise, _, _ = scene
    rng = np.random.default_rng(0)
    stars = np.zeros((150, 1), STAR_DTYPE)
    for axis in "xy":
        stars[axis] = rng.uniform(side / 4, 3 * side / 4, stars.shape)
    stars["radius"] = rng.uniform(*STARS_ONLY.radius, stars.shape) * side
    stars["kernel"] = np.resize(noise._kernels, stars.shape)
    stars["brightness"] = stars["rgb"] = 1
    greatest, rms = off(rendered(noise, stars), reference_layers(stars, side, cut=True))
    assert greatest < 1.3
    assert rms < 0.05


@pytest.mark.parametrize("side", SIDES)
def test_disks_that_the_frame_cuts_are_the_only_difference(side):
    """Against the unchanged reference, only pixels near the edges differ."""
    stars = reference_stars(STARS_ONLY, 24, side, seed=2)
    noise = DeviceNoise(STARS_ONLY, side)
    difference = np.abs(rendered(noise, stars) - reference_layers(stars, side, cut=True))
    away = 3 + round(STARS_ONLY.blur[1] * side / 2)
    assert difference[:, away:-away, away:-away].max() < MOST_OFF
    assert 2 * MOST_OFF < difference.max() < 64
    # 0.6 and 0.2 levels, of a standard deviation of 30.
    assert np.sqrt(np.mean(difference**2)) < 1


def test_stars_beyond_the_frame_leave_no_trace():
    noise = DeviceNoise(small_stars(sigma=0, n_stars=(4, 4)), 32)
    stars = np.zeros((1, 4), STAR_DTYPE)
    stars["x"], stars["y"] = [[-9, 16, 1e3, 41]], [[16, -1e4, 16, 41]]
    stars["brightness"] = stars["rgb"] = stars["radius"] = 1
    stars["kernel"] = 3
    assert not rendered(noise, stars).any()
    stars["x"] = 16
    assert rendered(noise, stars).any()


def test_looking_at_few_neighbours_misses_none(monkeypatch):
    """The result is the same as if each star were compared with all others."""
    stars = reference_stars(STARS_ONLY, 32, 64, seed=3)
    few = DeviceNoise(STARS_ONLY, 64)
    expected = rendered(few, stars)
    assert few._depth <= few.most / 4
    monkeypatch.setattr(device_noise, "_RIM", 1000)
    everything = DeviceNoise(STARS_ONLY, 64)
    assert everything._depth == everything.most
    np.testing.assert_allclose(rendered(everything, stars), expected, atol=1e-3)
    monkeypatch.setattr(device_noise, "_RIM", 2)  # what too little would do
    assert off(rendered(few, stars), expected)[0] > 1
    monkeypatch.undo()
    monkeypatch.setattr(few, "_depth", 2)
    assert off(rendered(few, stars), expected)[0] > 1


@pytest.fixture(scope="module")
def many_reference_stars():
    """Return 2000 images' reference stars at 128 px, about 70,000."""
    return reference_stars(STARS_ONLY, 2000, 128, seed=5)


def star_pvalues(stars, reference):
    """Compare drawn stars with the reference's: a p-value a property."""
    present, numbers = stars["present"], [len(array) for array in reference]
    reference = np.concatenate(reference)
    pairs = {name: (stars[name][present], reference[name]) for name in ("kernel", "colour")}
    pairs["number"] = present.sum(axis=1), numbers
    values = {}
    for name, pair in pairs.items():
        table = np.array([np.bincount(counted, minlength=100) for counted in pair])
        values[name] = stats.chi2_contingency(table[:, table.any(axis=0)]).pvalue
    for name in ("x", "y", "radius", "brightness"):
        values[name] = stats.ks_2samp(stars[name][present], reference[name]).pvalue
    for number, colour in enumerate(STAR_COLOURS):
        for band in range(3):
            ours = stars["rgb"][present & (stars["colour"] == number)][:, band]
            theirs = reference["rgb"][reference["colour"] == number][:, band]
            values[f"{colour}[{band}]"] = stats.ks_2samp(ours, theirs).pvalue
    return values


def test_stars_follow_the_references_law(many_reference_stars):
    # 2000 images, 70,000 stars. The Kolmogorov-Smirnov tests detect an error of 0.015 in a distribution function (0.03
    # for a channel of a colour) with a power above 0.99. The next test shows other errors that are detected.
    values = star_pvalues(drawn(DeviceNoise(STARS_ONLY, 128), 2000, seed=6), many_reference_stars)
    assert min(values.values()) > LEVEL / len(values), values


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("number", {"n_stars": (14, 55)}),
        ("number", {"n_stars": (16, 56)}),
        ("kernel", {"blur": (0.02, 0.072)}),
        ("colour", {"proportions": (1.8, 1.0, 1.0)}),
        ("radius", {"radius": (0.014, 0.034)}),
        ("brightness", {"brightness": (0.52, 1.0)}),
        ("blue[0]", {"blue": ((0.46, 0.7), (0.6, 0.85), (0.9, 1.0))}),
    ],
)
def test_another_law_of_stars_would_be_seen(many_reference_stars, name, wrong):
    values = star_pvalues(drawn(DeviceNoise(replace(STARS_ONLY, **wrong), 128), 2000, seed=7), many_reference_stars)
    assert values.pop(name) < LEVEL / 100
    # Only this property differs: the tests of the other properties still pass.
    assert min(values.values()) > LEVEL / len(values), values


def test_numbers_of_stars_stay_in_their_range_and_reach_its_ends():
    # The chance to miss any of four equally likely numbers in 200 images is 4 * 0.75**200, about 4e-25.
    stars = drawn(DeviceNoise(small_stars(n_stars=(2, 5)), 32), 200)
    assert set(stars["present"].sum(axis=1)) == {2, 3, 4, 5}
    assert np.all(stars["present"][:, :2])  # present ones come first


def test_the_properties_of_stars_are_independent():
    """Properties do not correlate with each other, between stars or between images; 0.03 would be detected."""
    stars = drawn(DeviceNoise(small_stars(n_stars=(20, 20)), 128), 1500, seed=8)
    columns = ("x", "y", "radius", "brightness", "kernel", "colour")
    values = np.stack([stars[name] for name in columns], axis=-1).astype(float)
    white = (stars["colour"] == 0)[..., None]  # within a colour class the channels are independent too
    values = np.concatenate([values, np.where(white, stars["rgb"], np.mean(MODEL.white))], axis=-1)
    values = (values - values.mean(axis=(0, 1))) / values.std(axis=(0, 1))
    for pair in ((values, values), (values[:, 1:], values[:, :-1]), (values[1:], values[:-1])):
        one, other = (array.reshape(-1, array.shape[-1]) for array in pair)
        correlation = one.T @ other / len(one)
        if one is other or pair[0] is pair[1]:
            correlation -= np.eye(len(correlation))
        limit = stats.norm.isf(LEVEL / (2 * 3 * correlation.size))
        # 0.03 is 5 standard errors of 1/sqrt(30,000), the limit 4.3: a power of 0.8, and near 1 for 0.04.
        assert np.abs(correlation).max() * np.sqrt(len(one)) < limit


def moments(images):
    """Mean, standard deviation and skewness of each image's channels, and the correlations of channels: (N, 12)."""
    flat = images.reshape(len(images), -1, 3).astype(float)
    centred = flat - flat.mean(axis=1, keepdims=True)
    std = flat.std(axis=1)
    scaled = centred / std[:, None]
    between = np.stack([np.mean(scaled[..., i] * scaled[..., j], axis=1) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    return np.concatenate([flat.mean(axis=1), std, np.mean(scaled**3, axis=1), between], axis=1)


# Each image has the same number of stars, because a varying number would hide other differences.
EQUAL = small_stars(sigma=0, n_stars=(30, 30))


@pytest.fixture(scope="module", params=[(64, 256), (128, 128)], ids=["64 px", "128 px"])
def reference_moments(request):
    side, n = request.param
    return side, n, moments(EQUAL.apply(np.zeros((n, side, side, 3), np.uint8), 0, np.arange(n)))


def moments_pvalue(noise, n, reference, seed):
    """Return the smallest of Welch's p-values, corrected for their number."""
    ours = moments(made(noise, grey(n, noise.side, 0.0), seed))
    return min(1, reference.shape[1] * np.min(stats.ttest_ind(ours, reference, equal_var=False).pvalue))


def test_pixels_have_the_references_moments(reference_moments):
    # The mean of an image varies by about 11 % between images. With 256 images, a difference of 5 % between means is
    # detected with a power of 0.9 (with 128 images: 7 %). The next test shows other errors that are detected.
    side, n, reference = reference_moments
    assert moments_pvalue(DeviceNoise(EQUAL, side), n, reference, seed=9) > LEVEL


WRONG = {"brightness": (0.45, 0.9), "radius": (0.0155, 0.0355), "blur": (0.04, 0.09), "proportions": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("reference_moments", [(64, 256)], indirect=True, ids=["64 px"])
def test_another_law_of_pixels_would_be_seen(reference_moments, name):
    side, n, reference = reference_moments
    wrong = replace(EQUAL, **{name: WRONG[name]})
    assert moments_pvalue(DeviceNoise(wrong, side), n, reference, seed=10) < LEVEL / 10


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_gaussian_noise_has_its_sigma_on_mid_grey(sigma):
    images = grey(20, 64)
    noise, wrong = (DeviceNoise(small_stars(sigma=factor * sigma, n_stars=(0, 0)), 64) for factor in (1, 1.02))
    residual = made(noise, images, seed=11) - images
    # Five standard errors of a mean and of a standard deviation: with 245,760 numbers a sigma 1 % off is seen with a
    # power of 0.98, a mean of 0.015 sigma with one of 0.99.
    of_mean, of_std = 5 * sigma / np.sqrt(residual.size), 5 * sigma / np.sqrt(2 * residual.size)
    assert abs(residual.mean()) < of_mean
    assert abs(residual.std() - sigma) < of_std < abs(made(wrong, images).std() - sigma)
    assert stats.kstest(residual.ravel()[::16] / sigma, "norm").pvalue > LEVEL
    # Noise is independent between pixels, channels, images and calls: a correlation of 0.015 is detected with a power
    # above 0.97.
    again = made(noise, np.concatenate([grey(64, 64), images]), seed=11)[64:] - images
    pairs = [
        (residual[:, :, 1:], residual[:, :, :-1]),
        (residual[:, 1:], residual[:, :-1]),
        (residual[..., 1:], residual[..., :-1]),
        (residual[1:], residual[:-1]),
        (residual, again),
    ]
    for one, other in pairs:
        assert abs(np.mean(one * other)) / sigma**2 < 5 / np.sqrt(one.size)


def test_gaussian_noise_does_not_follow_the_stars():
    """If both steps used the same random numbers, stars would correlate with the noise of the first pixels."""
    noise = DeviceNoise(small_stars(sigma=0.05, n_stars=(1, 1), brightness=(0, 0)), 16)
    values = drawn(noise, 2000, seed=12)
    residual = (made(noise, grey(2000, 16), seed=12, batch_size=2000) - 0.5).reshape(2000, -1)[:, :27]
    for name in ("x", "y", "radius"):
        correlation = stats.zscore(values[name][:, 0]) @ residual / 0.05 / 2000
        # 27 pixels: five standard errors are 0.11.
        assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_noisy_images_are_float32_and_clipped():
    for value in (0.0, 1.0):
        noisy = made(DeviceNoise(small_stars(sigma=0.5), 32), grey(8, value=value))
        assert noisy.dtype == np.float32
        assert (noisy.min(), noisy.max()) == (0, 1)
        # Half of the Gaussian is cut at the least: unclipped, there would be no repeated value.
        assert np.mean(noisy == value) > 0.3


@pytest.mark.parametrize("model", [small_stars(sigma=0, n_stars=(0, 0)), small_stars(sigma=0, brightness=(0, 0))])
def test_no_noise_leaves_the_image_as_it_was(model):
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(made(DeviceNoise(model, 32), images), images)


def test_stars_add_to_the_image_and_noise_to_both():
    images = np.random.default_rng(0).uniform(0.3, 0.4, (4, 32, 32, 3)).astype(np.float32)
    dim = small_stars(sigma=0, n_stars=(1, 3), brightness=(0.1, 0.1))
    noise = DeviceNoise(dim, 32)
    layer = ops.convert_to_numpy(noise.render(noise.stars(4, generator(1))))
    assert layer.max() > 0.05
    np.testing.assert_allclose(made(noise, images, seed=1), images + layer, atol=1e-6)
    both = made(DeviceNoise(replace(dim, sigma=0.01), 32), images, seed=1)
    assert np.std(both - images - layer) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("strength", [0, 0.3, 2])
def test_the_strength_multiplies_both_steps_before_clipping(strength):
    images = np.random.default_rng(0).uniform(0.3, 0.4, (4, 32, 32, 3)).astype(np.float32)
    model = small_stars(sigma=0.01, n_stars=(1, 3), brightness=(0.05, 0.1))
    added = made(DeviceNoise(model, 32), images, seed=1) - images
    scaled = made(DeviceNoise(replace(model, strength=strength), 32), images, seed=1) - images
    assert added.max() > 0.03
    np.testing.assert_allclose(scaled, strength * added, atol=1e-6)
    black = np.zeros_like(images)
    whole = made(DeviceNoise(replace(model, sigma=0, strength=50), 32), black, seed=1)
    assert whole.max() == 1


@pytest.mark.parametrize("side", SIDES)
def test_large_soft_spots_are_drawn_as_opencv_draws_them(side):
    spots = replace(LARGE_SPOTS, sigma=0)
    stars = reference_stars(spots, 16, side, seed=1)
    greatest, rms = off(rendered(DeviceNoise(spots, side), stars), reference_layers(stars, side))
    assert greatest < 2 * MOST_OFF  # up to 16 kernels, each with a layer of 8 bits
    assert rms < 2 * MOST_RMS


def test_large_soft_spots_have_the_moments_of_those_that_opencv_draws():
    equal = replace(LARGE_SPOTS, sigma=0, n_stars=(10, 10))
    reference = moments(equal.apply(np.zeros((128, 64, 64, 3), np.uint8), 0, np.arange(128)))
    assert moments_pvalue(DeviceNoise(equal, 64), 128, reference, seed=9) > LEVEL
    weaker = DeviceNoise(replace(equal, strength=1), 64)
    assert moments_pvalue(weaker, 128, reference, seed=9) < LEVEL / 10


@pytest.mark.parametrize(("scale", "most_off", "most_rms"), [(8, 12, 1), (4, 25, 2)])
def test_tables_too_large_take_coarser_steps_and_change_no_moments(scale, most_off, most_rms, monkeypatch):
    spots = replace(LARGE_SPOTS, sigma=0, n_stars=(10, 10))
    fine = DeviceNoise(spots, 64)
    assert fine._scale == 16
    monkeypatch.setattr(device_noise, "_MOST_BYTES", fine._stamps.nbytes * (scale / 16) ** 3 * 1.5)
    coarse = DeviceNoise(spots, 64)
    assert coarse._scale == scale
    assert coarse._stamps.nbytes < 1.2 * fine._stamps.nbytes * (scale / 16) ** 3
    stars = reference_stars(spots, 16, 64, seed=1)
    greatest, rms = off(rendered(coarse, stars), reference_layers(stars, 64))
    assert greatest < most_off
    assert rms < most_rms
    reference = moments(spots.apply(np.zeros((128, 64, 64, 3), np.uint8), 0, np.arange(128)))
    assert moments_pvalue(coarse, 128, reference, seed=9) > LEVEL


@pytest.mark.parametrize(("model", "side", "scale"), [(NoiseModel(), 128, 16), (LARGE_SPOTS, 128, 16)])
def test_usual_noise_at_the_papers_size_has_the_finest_steps(model, side, scale):
    noise = DeviceNoise(model, side)
    assert noise._scale == scale
    assert noise._stamps.nbytes < 2**27
    assert DeviceNoise(replace(model, radius=(0.1, 0.25)), side)._scale < 16


def test_the_generators_state_decides_the_bits():
    images = grey(8)
    noise = Noisy(DeviceNoise(MODEL, 32))
    model = model_of(noise)

    def noisy(seed):
        noise.seed_generator.state.assign(generator(seed).state)
        return model.predict(images, batch_size=4, verbose=0)

    first = noisy(3)
    pairs = ((first, noisy(4)), (first[4:], first[:4]), (first[1:4], first[:3]))
    np.testing.assert_array_equal(noisy(3), first)
    for one, other in pairs:
        # Next to no pixel is the same where none is clipped.
        assert np.mean((one == other)[(one > 0) & (one < 1)]) < 0.01


def test_a_compiled_model_takes_a_smaller_last_batch():
    images = grey(10)
    noise = Noisy(DeviceNoise(MODEL, 32), seed=5)
    first = model_of(noise).predict(images, batch_size=4, verbose=0)
    assert first.shape == images.shape
    assert first.dtype == np.float32
    if keras.backend.backend() == "tensorflow":
        assert None in noise.batches  # traced without knowing how many images come
    # Results equal those without compilation except for rounding, also in the last batch.
    state = generator(5)
    parts = [noise.noise(images[i : i + 4], state) for i in (0, 4, 8)]
    np.testing.assert_allclose(first, np.concatenate([ops.convert_to_numpy(part) for part in parts]), atol=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow alone has this trap")
def test_tensorflow_has_no_reason_to_leave_the_device():
    """TensorFlow computes int32 and looks up bytes on the host, so both may occur only in shapes and seeds."""
    import tensorflow as tf  # slow to load, and only here

    noise, state = DeviceNoise(MODEL, 32), generator()
    traced = tf.function(lambda images: noise(images, state)).get_concrete_function(tf.TensorSpec((None, 32, 32, 3)))
    tensors = [tensor for operation in traced.graph.get_operations() for tensor in operation.outputs]
    large = [tensor for tensor in tensors if tensor.shape.rank and tensor.shape.rank > 1 and tensor.shape[-1] != 1]
    fine = (tf.float16, tf.float32, tf.int64, tf.bool)
    assert len(large) > 100
    # These leave their result on the device.
    assert {tensor.op.type for tensor in large if tensor.dtype not in fine} <= {"TopKV2", "StatelessRandomUniformIntV2"}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_fit_sees_fresh_noise_of_the_references_strength(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        noise = Noisy(DeviceNoise(MODEL, 64), seed=6)
        # This network only multiplies by 1 and does not learn, so its loss is the mean square of the noise.
        layer = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones", use_bias=False)
        model = model_of(noise, layer, optimizer=keras.optimizers.SGD(0.0))
        images = grey(96, 64, 0.25)
        losses = model.fit(images, images, batch_size=32, epochs=2, shuffle=False, verbose=0).history["loss"]
        assert layer.compute_dtype == policy.removeprefix("mixed_")
        assert noise.dtypes == {(policy.removeprefix("mixed_"), "float32")}
    finally:
        keras.config.set_dtype_policy(before)
    reference = np.mean((MODEL.apply(images, 0, np.arange(96)) - images) ** 2, axis=(1, 2, 3))
    error = reference.std() / np.sqrt(96)
    assert losses[0] != losses[1]
    for loss in losses:
        # The mean of the reference is equally uncertain. The limit is 4.7 standard errors of the difference, a
        # probability of 0.999999. An error of 25 % in strength is detected with a power above 0.9.
        assert abs(loss - reference.mean()) < 4.7 * np.sqrt(2) * error


def test_images_of_another_shape_sides_without_pixels_and_disks_too_large_for_a_table_are_refused():
    for shape in ((1, 32, 31, 3), (1, 64, 64, 3), (1, 32, 32), (1, 32, 32, 4)):
        with pytest.raises(ValueError, match=r"images has shape .* \(N, 32, 32, 3\)"):
            DeviceNoise(MODEL, 32)(np.zeros(shape, np.float32), generator())
    with pytest.raises(ValueError, match="side is 0"):
        DeviceNoise(MODEL, 0)
    with pytest.raises(ValueError, match=r"radius is \(0.0, 0.5\), for which the table at 256 px takes .* MB"):
        DeviceNoise(small_stars(radius=(0.0, 0.5)), 256)

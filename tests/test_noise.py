"""The two noise steps are deterministic and in range, stars are in their places, and bad input is refused."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, asdict, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from noise_samples import SMALL_STARS, small_stars
from scipy import stats

from galaxynb.images import to_float
from galaxynb.noise import (
    CALIBRATE,
    STAR_COLOURS,
    STAR_DTYPE,
    WIDE_KERNEL,
    NoiseModel,
    blur_layer,
    draw_layers,
    star_disks,
)

MODEL = SMALL_STARS
STARS_ONLY = small_stars(sigma=0)


def random_images(n=6, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def grey(*shape, value=0.5):
    return np.full((*shape, 3), value, np.float32)


def stars_of(model, n=1, side=64, seed=0, **kwargs):
    """Apply a model to black images; return the images and the stars of each."""
    return model.apply(np.zeros((n, side, side, 3), np.uint8), seed, np.arange(n), return_stars=True, **kwargs)


def test_noise_is_the_same_in_any_batch_and_order():
    images, indices = random_images(8), np.arange(100, 108)
    whole = MODEL.apply(images, 3, indices, epoch=2)
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_array_equal(MODEL.apply(images[order], 3, indices[order], epoch=2), whole[order])
    parts = [MODEL.apply(images[i : i + 3], 3, indices[i : i + 3], epoch=2) for i in range(0, 8, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_noise_is_the_same_in_any_thread():
    images = random_images(32)
    expected = MODEL.apply(images, 0, np.arange(32))

    def one(i):
        return MODEL.apply(images[i : i + 1], 0, [i])[0]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            np.testing.assert_array_equal(np.stack(list(pool.map(one, range(32)))), expected)


def test_noise_does_not_depend_on_global_random_states():
    images = random_images(2)
    results = []
    for state in (1, 2):
        cv2.setRNGSeed(state)
        cv2.randn(np.empty(state), 0, 1)
        np.random.seed(state)  # noqa: NPY002 -- the legacy state is what must not matter
        results.append(MODEL.apply(images, 0, [0, 1]))
    np.testing.assert_array_equal(*results)


def test_noise_differs_by_seed_epoch_and_index():
    images = random_images(1)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    results = [MODEL.apply(images, seed, [index], epoch=epoch) for seed, epoch, index in keys]
    for one, other in itertools.combinations(results, 2):
        # Both steps differ, not the stars alone: next to no pixel is the same where none is clipped.
        assert np.mean((one == other)[(one > 0) & (one < 1)]) < 0.01


def test_the_two_steps_can_be_told_apart():
    """The Gaussian noise comes on top of the stars: either alone is what the other leaves out."""
    models = (small_stars(sigma=sigma, n_stars=(3, 3), brightness=(0.1, 0.2)) for sigma in (0.01, 0))
    (both, (stars,)), (only_stars, (same_stars,)) = (
        model.apply(grey(1, 64, 64, value=0.3), 5, [7], return_stars=True) for model in models
    )
    np.testing.assert_array_equal(stars, same_stars)
    assert np.std(both - only_stars) == pytest.approx(0.01, rel=0.05)
    assert (only_stars > 0.31).any()


@settings(max_examples=40, deadline=None)
@given(
    images=arrays(np.uint8, st.tuples(st.integers(0, 3), st.just(16), st.just(16), st.just(3))),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 2**20),
    first=st.integers(0, 2**31),
    sigma=st.floats(0, 2),
    number=st.integers(0, 6),
)
def test_noisy_images_are_float32_in_range_and_the_input_is_untouched(images, seed, epoch, first, sigma, number):
    model = small_stars(sigma=sigma, n_stars=(0, number))
    indices = first + np.arange(len(images))
    before = images.copy()
    noisy = model.apply(images, seed, indices, epoch=epoch)
    assert noisy.dtype == np.float32
    assert noisy.shape == images.shape
    assert np.all((noisy >= 0) & (noisy <= 1))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(model.apply(to_float(images), seed, indices, epoch=epoch), noisy)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_input_is_untouched_and_noisy_images_go_where_they_are_told_to(dtype):
    images = random_images(3) if dtype == np.uint8 else to_float(random_images(3)).astype(dtype)
    before = images.copy()
    noisy = MODEL.apply(images, 0, np.arange(3))
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(noisy, images)
    np.testing.assert_array_equal(noisy, MODEL.apply(random_images(3), 0, np.arange(3)))
    out = np.full((5, 32, 32, 3), np.float32(7))
    assert MODEL.apply(images, 0, np.arange(3), out=out[1:4]).base is out
    assert np.all(out[[0, 4]] == 7)
    np.testing.assert_array_equal(out[1:4], noisy)


def test_no_noise_leaves_the_image_as_it_was():
    nothing, images = small_stars(sigma=0, n_stars=(0, 0)), random_images(2)
    np.testing.assert_array_equal(nothing.apply(images, 0, [0, 1]), to_float(images))


@pytest.mark.parametrize(
    "view",
    [
        lambda images: np.rot90(images, axes=(1, 2)),
        lambda images: images[:, :, ::-1],
        lambda images: images.transpose(0, 2, 1, 3),
        np.asfortranarray,
    ],
    ids=["turned", "mirrored", "transposed", "fortran"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_layout_does_not_matter(view, dtype):
    images = random_images(2) if dtype == np.uint8 else to_float(random_images(2))
    seen = view(images)
    np.testing.assert_array_equal(MODEL.apply(seen, 0, [0, 1]), MODEL.apply(np.ascontiguousarray(seen), 0, [0, 1]))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    strength=st.floats(0, 1),
    sigma=st.floats(0, 0.01),
    number=st.integers(0, 3),
    brightness=st.floats(0, 0.1),
)
def test_noise_is_linear_in_its_strength_away_from_clipping(seed, strength, sigma, number, brightness):
    model = small_stars(sigma=sigma, n_stars=(0, number), brightness=(0, brightness))
    images = grey(2, 32, 32)
    added = model.apply(images, seed, [0, 1]) - images
    scaled = replace(model, strength=strength).apply(images, seed, [0, 1]) - images
    np.testing.assert_allclose(scaled, strength * added, atol=1e-6)


@given(images=arrays(np.uint8, (2, 8, 8, 3)), seed=st.integers(0, 2**40))
@settings(max_examples=20, deadline=None)
def test_no_strength_leaves_the_image_as_it_was_and_strength_one_is_the_default(images, seed):
    np.testing.assert_array_equal(small_stars(strength=0).apply(images, seed, [3, 4]), to_float(images))
    np.testing.assert_array_equal(
        small_stars(strength=1).apply(images, seed, [3, 4]), MODEL.apply(images, seed, [3, 4])
    )


def test_bright_stars_saturate_at_a_strength_above_one():
    black = np.zeros((20, 64, 64, 3), np.uint8)
    whole, strong = (replace(STARS_ONLY, strength=s).apply(black, 0, np.arange(20)) for s in (1, 3))
    np.testing.assert_allclose(strong, np.minimum(3 * whole, 1), atol=1e-5)
    assert np.mean(strong == 1) > np.mean(whole == 1)


@pytest.mark.parametrize("kernel", [WIDE_KERNEL - 2, WIDE_KERNEL, 35, 69])
def test_small_and_wide_kernels_blur_alike(kernel):
    layer = draw_layers(star_disks(stars_of(STARS_ONLY, side=64)[1][0]), 64)
    layer = np.max(list(layer.values()), axis=0)
    exact = cv2.GaussianBlur(layer.astype(np.float64), (kernel, kernel), 0)
    blurred = blur_layer(layer, kernel)
    assert blurred.dtype == np.float32
    # Fixed point has weights of 8 bits.
    np.testing.assert_allclose(blurred, exact, atol=1e-3 if kernel >= WIDE_KERNEL else 5)
    if kernel < WIDE_KERNEL:
        np.testing.assert_array_equal(blurred, cv2.GaussianBlur(layer, (kernel, kernel), 0))
    out = np.empty(layer.shape, np.float32)
    assert blur_layer(layer, kernel, out=out) is out
    np.testing.assert_array_equal(out, blurred)


def test_an_empty_batch_stays_empty():
    noisy, stars = stars_of(MODEL, n=0, side=32)
    assert noisy.shape == (0, 32, 32, 3)
    assert stars == []


def test_returned_stars_match_the_pixels():
    for side in (48, 128):
        images = grey(40, side, side, value=0.1)
        noisy, stars = STARS_ONLY.apply(images, 1, np.arange(40), return_stars=True)
        for image, drawn in zip(noisy, stars, strict=True):
            assert drawn.dtype == STAR_DTYPE
            x, y = (np.clip(np.rint(drawn[axis]).astype(int), 0, side - 1) for axis in "xy")
            assert np.all(image[y, x].max(axis=1) > 0.1)
            # Stars change no other pixels: beyond the disk, its soft edge and the blur kernel nothing is added.
            yy, xx = np.mgrid[:side, :side]
            reach = np.zeros((side, side), bool)
            for star in drawn:
                far = star["radius"] + star["kernel"] / 2 + 2
                reach |= (abs(xx - star["x"]) <= far) & (abs(yy - star["y"]) <= far)
            np.testing.assert_array_equal(image[~reach], np.float32(0.1))


def test_a_star_is_centred_on_its_position_and_shows_its_colour():
    model = small_stars(sigma=0, n_stars=(1, 1), radius=(0.03, 0.05), blur=(0.03, 0.05))
    noisy, stars = stars_of(model, n=60, side=128)
    grid = np.arange(128)
    checked = 0
    for image, (star,) in zip(noisy, stars, strict=True):
        if not all(12 < star[axis] < 115 for axis in "xy"):
            continue  # cut off by the border
        flux, light = image.sum(axis=(0, 1)), image.sum(axis=2)
        for k, axis in enumerate("xy"):
            assert (light.sum(axis=k) @ grid) / light.sum() == pytest.approx(star[axis], abs=0.1)
        np.testing.assert_allclose(flux / flux.max(), star["rgb"] / star["rgb"].max(), atol=0.02)
        assert np.all(image.max(axis=(0, 1)) <= star["brightness"] * star["rgb"] + 0.01)
        checked += 1
    assert checked > 30


def test_numbers_of_stars_stay_in_their_range_and_reach_its_ends():
    _, stars = stars_of(small_stars(sigma=0, n_stars=(2, 5)), n=200, side=32)
    assert {len(drawn) for drawn in stars} == {2, 3, 4, 5}


def test_every_drawn_value_stays_in_its_range():
    side = 128
    _, stars = stars_of(MODEL, n=400, side=side)
    stars = np.concatenate(stars)
    for axis in "xy":
        assert stars[axis].min() >= -0.5
        assert stars[axis].max() < side - 0.5
        # Uniform over the whole image; fixed seed, so this passes always or never.
        assert stats.kstest((stars[axis] + 0.5) / side, "uniform").pvalue > 0.01
    for name, scale in (("radius", side), ("brightness", 1)):
        low, high = (np.float32(limit * scale) for limit in getattr(MODEL, name))
        assert np.all((stars[name] >= low) & (stars[name] <= high))
    low, high = (side * limit for limit in MODEL.blur)
    assert np.all(stars["kernel"] % 2 == 1)
    assert stars["kernel"].min() >= max(3, low - 1)
    assert stars["kernel"].max() <= high + 1
    for number, colour in enumerate(STAR_COLOURS):
        rgb = stars["rgb"][stars["colour"] == number]
        limits = np.array(getattr(MODEL, colour), np.float32)
        assert len(rgb)
        assert np.all((rgb >= limits[:, 0]) & (rgb <= limits[:, 1]))


def test_a_star_does_not_change_with_the_stars_after_it():
    (few,), (many,) = (stars_of(small_stars(n_stars=(n, n)))[1] for n in (3, 9))
    np.testing.assert_array_equal(few, many[:3])


def test_colours_come_at_two_to_one_to_one():
    _, stars = stars_of(STARS_ONLY, n=300, side=32)
    counts = np.bincount(np.concatenate(stars)["colour"], minlength=3)
    wanted = np.array([2, 1, 1]) / 4
    number, level = counts.sum(), 1e-3
    critical = stats.chi2.ppf(1 - level, df=2)
    # The test distinguishes 2:1:1 from 1:1:1, and even from 1.7:1:1, with a power above 0.9.
    for other in ([1, 1, 1], [1.7, 1, 1]):
        off = np.array(other) / sum(other)
        assert stats.ncx2.sf(critical, 2, number * np.sum((off - wanted) ** 2 / wanted)) > 0.9
    assert stats.chisquare(counts, number * wanted).pvalue > level


@pytest.mark.parametrize("colour", range(3))
def test_proportions_may_leave_colours_out(colour):
    proportions = tuple(float(i == colour) for i in range(3))
    _, stars = stars_of(small_stars(proportions=proportions), n=20, side=32)
    assert set(np.concatenate(stars)["colour"]) == {colour}


def test_lengths_scale_with_the_image():
    """The same stars, twice as large, in an image twice the size."""
    small_images, small = stars_of(STARS_ONLY, n=20, side=128, seed=4)
    large_images, large = stars_of(STARS_ONLY, n=20, side=256, seed=4)
    small, large = np.concatenate(small), np.concatenate(large)
    np.testing.assert_allclose(large["radius"], 2 * small["radius"], rtol=1e-5)
    for axis in "xy":
        np.testing.assert_allclose(large[axis] + 0.5, 2 * (small[axis] + 0.5), atol=1e-3)
    wide = small["kernel"] > 3  # the smallest kernel
    assert np.all(abs(large["kernel"] - 2 * small["kernel"])[wide] <= 3)
    for name in ("brightness", "rgb", "colour"):
        np.testing.assert_array_equal(large[name], small[name])
    halved = np.stack([cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) for image in large_images])
    assert np.corrcoef(halved.ravel(), small_images.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_gaussian_noise_has_its_sigma_on_mid_grey(sigma):
    residual = small_stars(sigma=sigma, n_stars=(0, 0)).apply(grey(20, 64, 64), 0, np.arange(20)) - 0.5
    n = residual.size
    # Limits are five standard errors, of a mean and of a standard deviation.
    assert abs(residual.mean()) < 5 * sigma / np.sqrt(n)
    assert abs(residual.std() - sigma) < 5 * sigma / np.sqrt(2 * n)
    assert stats.kstest(residual.ravel()[::16] / sigma, "norm").pvalue > 0.001
    # Independent from pixel to pixel, channel to channel and image to image.
    for axis in range(4):
        first = np.moveaxis(residual, axis, 0)
        assert abs(np.mean(first[1:] * first[:-1])) / sigma**2 < 5 / np.sqrt(first[1:].size)


def test_the_first_pixel_is_as_random_as_any():
    """A generator seeded anew for each image must not show its seeds in the first numbers."""
    first = small_stars(n_stars=(0, 0)).apply(grey(2000, 2, 2), 0, np.arange(2000))[:, 0, 0, 0] - 0.5
    assert stats.kstest(first / MODEL.sigma, "norm").pvalue > 0.001
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 5 / np.sqrt(len(first))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": -1}, "strength is -1, but a finite number >= 0 is needed"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"strength": float("inf")}, "strength is inf"),
        ({"sigma": -0.1}, r"sigma is -0\.1"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"sigma": float("inf")}, "sigma is inf"),
        ({"radius": (0.2, 0.1)}, r"radius is \(0\.2, 0\.1\)"),
        ({"radius": (-0.1, 0.1)}, r"radius is \(-0\.1, 0\.1\)"),
        ({"radius": 0.1}, r"radius is 0\.1"),
        ({"radius": (0.1, 0.2, 0.3)}, "radius is"),
        ({"brightness": (0.5, 1.5)}, r"brightness is \(0\.5, 1\.5\)"),
        ({"brightness": (float("nan"), 1)}, "brightness is"),
        ({"blur": (0, 2)}, r"blur is \(0, 2\)"),
        ({"white": ((0, 1), (0, 1))}, "white is .* R, G and B"),
        ({"blue": ((0, 1), (0, 1), (0, 1.1))}, r"blue\[b\] is \(0, 1\.1\)"),
        ({"red": ((1, 0), (0, 1), (0, 1))}, r"red\[r\] is \(1, 0\)"),
        ({"n_stars": (5, 2)}, r"n_stars is \(5, 2\)"),
        ({"n_stars": (-1, 2)}, r"n_stars is \(-1, 2\)"),
        ({"n_stars": (0, 2.5)}, r"n_stars is \(0, 2\.5\)"),
        ({"n_stars": (0, float("inf"))}, r"n_stars is \(0, inf\)"),
        ({"n_stars": 5}, "n_stars is 5"),
        ({"proportions": (1, 1)}, r"proportions is \(1, 1\)"),
        ({"proportions": (0, 0, 0)}, r"proportions is \(0, 0, 0\)"),
        ({"proportions": (2, -1, 1)}, r"proportions is \(2, -1, 1\)"),
        ({"proportions": (float("nan"), 1, 1)}, r"proportions is \(nan, 1, 1\)"),
        ({"proportions": (float("inf"), 1, 1)}, r"proportions is \(inf, 1, 1\)"),
    ],
)
def test_a_meaningless_model_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        NoiseModel(**values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[
            ({"images": np.zeros(shape, np.uint8), "indices": [0]}, r"images has shape .* \(N, H, H, 3\)")
            for shape in ((32, 32, 3), (1, 32, 31, 3), (1, 32, 32), (1, 32, 32, 4))
        ],
        *[
            ({"images": random_images(2).astype(dtype)}, f"images is {dtype}, but uint8 or floating point")
            for dtype in ("int64", "uint16", "bool")
        ],
        *[({"indices": indices}, "indices has shape") for indices in (0, [0], [0, 1, 2], [[0, 1]])],
        *[
            ({"out": out}, r"out is float.* but C-contiguous float32 of shape \(2, 32, 32, 3\) is")
            for out in (
                np.empty((1, 32, 32, 3), np.float32),
                np.empty((2, 32, 32, 3), np.float64),
                np.empty((2, 32, 32, 6), np.float32)[..., ::2],
            )
        ],
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(TypeError if message.startswith("images is") else ValueError, match=message):
        MODEL.apply(**{"images": random_images(2), "seed": 0, "indices": [0, 1]} | changes)


@pytest.mark.parametrize("name", ["seed", "epoch", "index"])
@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_keys_must_be_counting_numbers(name, value, error):
    keys = {"seed": 0, "epoch": 0, "index": 0} | {name: value}
    with pytest.raises(error, match=rf"{name} is .*{value}"):
        MODEL.apply(random_images(1), keys["seed"], [keys["index"]], epoch=keys["epoch"])


def test_a_model_is_frozen():
    with pytest.raises(FrozenInstanceError):
        MODEL.sigma = 0.2


def test_a_model_written_is_read_back_the_same(tmp_path):
    model = small_stars(sigma=0.03, n_stars=(1, 4), red=((0.8, 0.9), (0.1, 0.2), (0, 0)))
    model.write(tmp_path / "noise.json")
    assert NoiseModel.read(tmp_path / "noise.json") == model
    assert hash(NoiseModel.read(tmp_path / "noise.json")) == hash(model)  # tuples again, not lists
    assert [path.name for path in tmp_path.iterdir()] == ["noise.json"]


def test_a_strength_to_be_calibrated_is_read_as_such_alone(tmp_path):
    path = tmp_path / "noise.json"
    model = small_stars(strength=2.5, sigma=0.03)
    model.write(path)
    assert NoiseModel.read_uncalibrated(path) == (model, False)
    model.write(path, calibrate=True)
    assert json.loads(path.read_text())["strength"] == CALIBRATE
    assert NoiseModel.read_uncalibrated(path) == (replace(model, strength=1), True)
    with pytest.raises(ValueError, match=r"strength in .*noise\.json is 'calibrate', but a number is needed: read"):
        NoiseModel.read(path)


def test_a_profile_gives_the_model_and_what_it_leaves_out_is_the_default():
    assert NoiseModel.from_profile({}) == (NoiseModel(), True)
    model, calibrate = NoiseModel.from_profile({"strength": 2, "most_stars": 30, "radius": [0.1, 0.2]})
    expected = NoiseModel(strength=2, n_stars=(NoiseModel().n_stars[0], 30), radius=(0.1, 0.2))
    assert (model, calibrate) == (expected, False)
    assert hash(model) == hash(expected)
    with pytest.raises(
        ValueError, match=r"sgima is no parameter of the noise, but one of strength, sigma, .* is needed"
    ):
        NoiseModel.from_profile({"sgima": 1})
    for strength in (-1, "abc", True, None):
        with pytest.raises(ValueError, match=f"strength is {strength!r}, but a finite number >= 0 is needed"):
            NoiseModel.from_profile({"strength": strength})


def test_a_missing_model_names_the_notebook(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"noise\.json is missing, .*02_noise\.ipynb"):
        NoiseModel.read(tmp_path / "noise.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"sigma": 0.1',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b'{"sgima": 0.1}',
        b'{"sigma": "much"}',
        json.dumps(asdict(MODEL) | {"sigma": -1}).encode(),
        json.dumps(asdict(MODEL) | {"strength": "strong"}).encode(),
        json.dumps({name: value for name, value in asdict(MODEL).items() if name != "strength"}).encode(),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "noise.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"noise\.json is not a noise model .*02_noise\.ipynb"):
        NoiseModel.read(tmp_path / "noise.json")

"""The stand-in has the published file's layout, is reproducible, and looks like the survey."""

import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxynb import layout, simulate

fluxes = st.floats(-0.0625, 50, width=32)


def read(path):
    with h5py.File(path) as file:
        return {name: dataset[:] for name, dataset in file.items()}


def make(path, n_images=20, **kwargs):
    options = {"image_size": 32, "workers": 1, "progress": False} | kwargs
    return simulate.make_standin(path, n_images, **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("standin") / "small.h5", 40, image_size=64, seed=3)


@pytest.fixture(scope="module")
def cutouts():
    """Two images a class at the survey's size: images, truth, columns."""
    return simulate._render_block(11, 0, np.repeat(np.arange(10), 2), 256)


def sky_of(channel):
    """Median and standard deviation of a channel after clipping at 3 sigma."""
    values = channel.astype(float).ravel()
    for _ in range(6):
        values = values[abs(values - np.median(values)) < 3 * values.std()]
    return np.median(values), values.std()


def test_the_file_has_the_published_layout_and_the_truth(small):
    with h5py.File(small) as file:
        assert set(file) == {layout.IMAGES, layout.LABELS, layout.TRUTH, *layout.FLOAT_COLUMNS}
        assert "seed 3" in file.attrs[layout.STANDIN_ATTRIBUTE]
        for name in (layout.IMAGES, layout.TRUTH):
            assert file[name].shape == (40, 64, 64, 3)
            assert file[name].dtype == np.uint8
            assert file[name].chunks == (1, 64, 64, 3)
        assert file[layout.LABELS].dtype == np.uint8
        for name in layout.FLOAT_COLUMNS:
            assert file[name].shape == (40,)
            assert file[name].dtype == np.float64


def test_columns_are_plausible_and_labels_sorted(small):
    columns = read(small)
    labels = columns[layout.LABELS]
    assert (np.diff(labels.astype(int)) >= 0).all()
    assert (np.bincount(labels, minlength=10) == simulate.class_counts(40)).all()
    assert set(columns["pxscale"]) <= {0.262, 0.524}
    assert ((columns["ra"] >= 0) & (columns["ra"] < 360)).all()
    assert (abs(columns["dec"]) < 90).all()
    assert ((columns["redshift"] > 0) & (columns["redshift"] < 0.5)).all()


def test_class_counts_are_the_real_ones_at_the_real_size():
    assert tuple(simulate.class_counts(sum(layout.CLASS_COUNTS))) == layout.CLASS_COUNTS


@given(st.integers(10, 40_000))
def test_class_counts_sum_up_keep_the_proportions_and_miss_no_class(n_images):
    counts = simulate.class_counts(n_images)
    assert counts.sum() == n_images
    assert counts.min() >= 1
    exact = np.array(layout.CLASS_COUNTS) * n_images / sum(layout.CLASS_COUNTS)
    # A class is off by less than one image, unless it gave one to a class that had none.
    assert (counts > exact - 1 - (exact < 1).sum()).all()
    assert (counts < np.maximum(exact, 1) + 1).all()


def test_the_content_depends_on_the_seed_alone(tmp_path):
    first = read(make(tmp_path / "one.h5", 36, seed=5))
    pooled = read(make(tmp_path / "two.h5", 36, seed=5, workers=2))
    other = read(make(tmp_path / "other.h5", 36, seed=6))
    for name, column in first.items():
        np.testing.assert_array_equal(column, pooled[name])
    for name in (layout.IMAGES, layout.TRUTH, "ra"):
        assert (first[name] != other[name]).any(axis=tuple(range(1, first[name].ndim))).all()


def test_images_of_a_file_differ_from_each_other(small):
    images = read(small)[layout.IMAGES]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_an_image_does_not_depend_on_its_block():
    labels = np.array([0, 1, 5])
    whole = simulate._render_block(2, 7, labels, 32)
    alone = simulate._render_block(2, 8, labels[1:2], 32)
    for together, single in zip(whole, alone, strict=True):
        np.testing.assert_array_equal(together[1], single[0])


def test_the_truth_is_the_image_without_its_noise(cutouts):
    images, truth, _ = cutouts
    difference = images.astype(float) - truth
    assert abs(difference.mean()) < 1
    corner = (slice(None), slice(0, 40), slice(0, 40))
    roughness = [abs(np.diff(part[corner].astype(float), axis=2)).mean() for part in (images, truth)]
    assert roughness[0] > 5 * roughness[1]
    # The same galaxies and the same field objects.
    for image, true in zip(images, truth, strict=True):
        assert np.corrcoef(cv2.GaussianBlur(image, (0, 0), 2).ravel(), true.ravel())[0, 1] > 0.8


def test_the_sky_is_that_of_the_published_images(cutouts):
    sky = np.array([[sky_of(image[..., c]) for c in range(3)] for image in cutouts[0]])
    # 110 published images: median 33-35 of 255, standard deviation 11-12 (10-90%: 8-15).
    assert np.median(sky[..., 0]) == pytest.approx(34, abs=2)
    assert np.median(sky[..., 1]) == pytest.approx(11.3, abs=2)
    assert sky[..., 1].std() > 1


def test_noise_is_slightly_correlated_between_pixels():
    noise = np.zeros((3, 256, 256), np.float32)
    simulate._add_noise(noise, np.random.default_rng(0), zoom=1.0, coarse=False)
    band = noise[0]
    lags = [(band[:, lag:] * band[:, :-lag]).mean() / band.var() for lag in (1, 4)]
    assert 0.15 < lags[0] < 0.35
    assert abs(lags[1]) < 0.05
    assert abs(np.corrcoef(noise[0].ravel(), noise[2].ravel())[0, 1]) < 0.05


def test_a_smaller_image_shows_the_same_field():
    labels = np.arange(10)
    large = simulate._render_block(1, 0, labels, 256)[1]
    small = simulate._render_block(1, 0, labels, 64)[1]
    for image, expected in zip(small, large, strict=True):
        shrunk = cv2.resize(expected, (64, 64), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(image.ravel(), shrunk.ravel())[0, 1] > 0.9


def test_axis_ratios_order_the_smooth_and_edge_on_classes():
    def flattening(label):
        truth = simulate._render_block(4, 0, np.full(8, label), 128)[1].astype(float).mean(-1)
        ratios = []
        for image in truth:
            core = np.argwhere(image[34:94, 34:94] > 90)
            smaller, larger = np.linalg.eigvalsh(np.cov(core.T))
            ratios.append(np.sqrt(smaller / larger))
        return np.median(ratios)

    order = [flattening(layout.CLASS_NAMES.index(name)) for name in layout.CLASS_NAMES[2:5]]
    assert order[0] > order[1] > order[2] > flattening(8)


def test_survey_rgb_of_no_flux_is_the_sky():
    empty = simulate.survey_rgb(*np.zeros((3, 2, 2)))
    assert empty.dtype == np.float32
    assert empty.shape == (2, 2, 3)
    # m asinh(Q m) / (sqrt(Q) m), with m = 0.03 and Q = 20.
    np.testing.assert_allclose(empty, np.arcsinh(0.6) / np.sqrt(20), rtol=1e-5)
    assert empty.mean() * 255 == pytest.approx(32.4, abs=0.05)


@given(fluxes, fluxes, fluxes)
def test_survey_rgb_stays_in_range(g, r, z):
    rgb = simulate.survey_rgb(g, r, z)
    assert ((rgb >= 0) & (rgb <= 1)).all()


@given(fluxes, fluxes, fluxes, st.floats(0.001, 10))
def test_survey_rgb_brightens_a_channel_with_its_own_band(g, r, z, more):
    for band, channel in enumerate((2, 1, 0)):
        raised = [g, r, z]
        raised[band] += more
        assert simulate.survey_rgb(*raised)[channel] >= simulate.survey_rgb(g, r, z)[channel] - 1e-6


def test_survey_rgb_keeps_colour_order_and_saturates_to_white():
    red = simulate.survey_rgb(0.02, 0.05, 0.1)
    assert red[0] > red[1] > red[2]
    np.testing.assert_array_equal(simulate.survey_rgb(100.0, 180.0, 300.0), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 9}, "n_images is 9: give at least 10"),
        ({"image_size": 31}, "image_size is 31: give at least 32"),
        ({"seed": -1}, "seed is -1: give an integer of at least 0"),
        ({"workers": 0}, "workers is 0: give at least 1"),
    ],
)
def test_bad_values_are_refused_by_name(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "new" / "x.h5", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n_images", "image_size", "seed", "workers"])
def test_bad_types_are_refused_by_name(tmp_path, name):
    with pytest.raises(TypeError, match=rf"{name} is 64\.5: give an integer"):
        make(tmp_path / "x.h5", **{name: 64.5})
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = make(tmp_path / "x.h5")
    before = path.read_bytes()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(simulate, "_render_block", fail)
    with pytest.raises(MemoryError):
        make(path, seed=1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"can't write .*x\.h5 \(.*\): free some space or choose another path"):
        make(tmp_path / "file" / "x.h5")


def test_a_dying_worker_leaves_nothing(tmp_path):
    def kill_one():
        while not multiprocessing.active_children():
            time.sleep(0.01)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(RuntimeError, match="a worker process of make_standin died: nothing was written"):
        make(tmp_path / "x.h5", 2000, workers=2)
    killer.join()
    assert not list(tmp_path.iterdir())
    assert not multiprocessing.active_children()


def test_a_full_disk_leaves_nothing(tmp_path):
    # A limit on the file's size stands for the full disk; another process, because it is for good.
    script = """
import sys
from galaxynb.simulate import make_standin
try:
    make_standin(sys.argv[1], 100, 64, workers=1, progress=False)
except OSError as error:
    print(error)
"""
    limit = 300_000  # bytes, well under the 2 MB of 100 images
    done = subprocess.run(
        [sys.executable, "-c", script, os.fspath(tmp_path / "x.h5")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout.endswith("x.h5 (File too large): free some space or choose another path\n")
    assert not done.stderr
    assert not list(tmp_path.iterdir())

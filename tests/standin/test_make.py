"""The stand-in has the published file's layout, is reproducible, and looks like the survey."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import cv2
import h5py
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import example, given, settings
from hypothesis import strategies as st

from galaxynb.data.galaxy10 import CLASS_COUNTS, FLOAT_COLUMNS, IMAGES, LABELS, STANDIN_ATTRIBUTE, TRUTH
from galaxynb.data.splits import close_pairs
from galaxynb.standin.make import _position, _render, _render_block, _Row, _rows, counts_per_class, make_standin
from galaxynb.standin.measure import as_jpeg, published_measurements
from galaxynb.standin.ranges import NEIGHBOURS, TWINS

PUBLISHED = np.repeat(np.arange(10), CLASS_COUNTS)


def read(path):
    with h5py.File(path) as file:
        return {name: dataset[:] for name, dataset in file.items()}


def make(path, n_images=20, **kwargs):
    options = {"image_size": 32, "workers": 1, "progress": False} | kwargs
    return make_standin(path, n_images, **options)


def own(labels, first=0):
    """Return rows that repeat no other one."""
    return [_Row(first + k, int(label)) for k, label in enumerate(labels)]


def copies(rows):
    """Return the indices of the rows that repeat another row: in the same place, and shifted."""
    twins = [k for k, row in enumerate(rows) if row.index != k and not (row.dx or row.dy)]
    return twins, [k for k, row in enumerate(rows) if row.dx or row.dy]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("standin") / "small.h5", 40, image_size=64, seed=3)


@pytest.fixture(scope="module")
def cutouts():
    """Return two images per class at the size of the survey: images, truth, columns."""
    return _render_block(11, own(np.repeat(np.arange(10), 2)), 256)


def sky_of(channel):
    """Return the median and standard deviation of a channel after clipping at 3 sigma."""
    values = channel.astype(float).ravel()
    for _ in range(6):
        values = values[abs(values - np.median(values)) < 3 * values.std()]
    return np.median(values), values.std()


def test_the_file_has_the_published_layout_and_the_truth(small):
    with h5py.File(small) as file:
        assert set(file) == {IMAGES, LABELS, TRUTH, *FLOAT_COLUMNS}
        assert "seed 3" in file.attrs[STANDIN_ATTRIBUTE]
        for name in (IMAGES, TRUTH):
            assert (file[name].shape, file[name].dtype) == ((40, 64, 64, 3), np.uint8)
            assert file[name].chunks == (1, 64, 64, 3)
        assert file[LABELS].dtype == np.uint8
        for name in FLOAT_COLUMNS:
            assert (file[name].shape, file[name].dtype) == ((40,), np.float64)


def test_columns_are_plausible_labels_sorted_and_images_different(small):
    columns = read(small)
    labels = columns[LABELS]
    assert (np.diff(labels.astype(int)) >= 0).all()
    assert (np.bincount(labels, minlength=10) == counts_per_class(40)).all()
    assert set(columns["pxscale"]) <= {0.262, 0.524}
    assert ((columns["ra"] >= 0) & (columns["ra"] < 360)).all()
    assert ((columns["dec"] > -18.1) & (columns["dec"] < 68.1)).all()
    assert ((columns["redshift"] >= 0.002) & (columns["redshift"] <= 0.3)).all()
    assert 0.02 < np.median(columns["redshift"]) < 0.2
    assert len(np.unique(columns[IMAGES].reshape(40, -1), axis=0)) == 40


def test_positions_are_in_the_surveys_parts_of_the_sky():
    rng = np.random.default_rng(0)
    ra, dec = np.array([_position(rng) for _ in range(2000)]).T
    latitude = SkyCoord(ra * units.deg, dec * units.deg).galactic.b.deg
    assert abs(latitude).min() > 29.9  # away from the Milky Way
    north = latitude > 0
    assert 0.87 < north.mean() < 0.93
    assert dec[north].min() < 5
    assert dec[north].max() > 60
    assert dec[~north].max() < 33.1


@given(st.integers(10, 40_000))
@example(sum(CLASS_COUNTS))  # nothing is rounded there, so the counts must be the real ones
def test_class_counts_sum_up_keep_the_proportions_and_miss_no_class(n_images):
    counts = counts_per_class(n_images)
    assert counts.sum() == n_images
    assert counts.min() >= 1
    exact = np.array(CLASS_COUNTS) * n_images / sum(CLASS_COUNTS)
    # A count is off by less than one image, unless the class gave one to an empty class.
    assert (counts > exact - 1 - (exact < 1).sum()).all()
    assert (counts < np.maximum(exact, 1) + 1).all()


def test_the_content_depends_on_the_seed_alone(tmp_path):
    first = read(make(tmp_path / "one.h5", 36, seed=5))
    pooled = read(make(tmp_path / "two.h5", 36, seed=5, workers=2))
    other = read(make(tmp_path / "other.h5", 36, seed=6))
    for name, column in first.items():
        np.testing.assert_array_equal(column, pooled[name])
    for name in (IMAGES, TRUTH, "ra"):
        assert (first[name] != other[name]).any(axis=tuple(range(1, first[name].ndim))).all()


def test_an_image_does_not_depend_on_its_block():
    rows = own([0, 1, 5], first=7)
    whole = _render_block(2, rows, 32)
    alone = _render_block(2, rows[1:2], 32)
    for together, single in zip(whole, alone, strict=True):
        np.testing.assert_array_equal(together[1], single[0])


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interruption_leaves_nothing_and_changes_nothing(tmp_path, end):
    # Stops for good after two of three blocks.
    script = """
import signal, sys, time
from galaxynb.standin import make
# A shell's background jobs, and so what they start, ignore this signal unless they say otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
render, calls = make._render_block, []
def stop_half_way(*task):
    calls.append(task)
    if len(calls) > 2:
        print("half-way", flush=True)
        time.sleep(60)
    return render(*task)
make._render_block = stop_half_way
make.make_standin(sys.argv[1], 40, image_size=32, seed=8, workers=1, progress=False)
"""
    path = tmp_path / "x.h5"
    command = [sys.executable, "-c", script, os.fspath(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half-way\n"
        assert [left.name for left in tmp_path.iterdir()] != ["x.h5"]
        process.send_signal(end)
        process.communicate()
    assert process.returncode != 0
    assert not path.exists()
    undisturbed = make(tmp_path / "undisturbed.h5", 40, seed=8)
    make(path, 40, seed=8)
    assert path.read_bytes() == undisturbed.read_bytes()
    assert set(tmp_path.iterdir()) == {path, undisturbed}  # no temporary file is left either


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_as_many_rows_repeat_another_as_in_the_published_catalogue(seed):
    rows = _rows(PUBLISHED, seed)
    twins, neighbours = copies(rows)
    assert len(twins) == sum(TWINS.values()) == 59
    assert len(neighbours) == sum(NEIGHBOURS.values()) == 67
    for k in twins:
        pair = tuple(sorted((int(PUBLISHED[k]), rows[k].label)))
        assert pair in TWINS
        assert pair[0] != pair[1]
    for k in neighbours:
        assert tuple(sorted((int(PUBLISHED[k]), rows[k].label))) in NEIGHBOURS
        assert 2 <= np.hypot(rows[k].dx, rows[k].dy) <= 10
    originals = [rows[k].index for k in twins + neighbours]
    # No galaxy occurs three times, and each original is drawn from its own row and label.
    assert len({*originals, *twins, *neighbours}) == 2 * (59 + 67)
    assert all(rows[k] == (k, PUBLISHED[k], 0, 0) for k in originals)
    assert all(rows[k].label == PUBLISHED[rows[k].index] for k in twins + neighbours)
    assert rows == _rows(PUBLISHED, seed)
    assert (twins, neighbours) != copies(_rows(PUBLISHED, seed + 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 130) | st.integers(130, 4000), st.integers(0, 100))
def test_a_smaller_file_has_its_share_of_them_and_a_tiny_one_none(n_images, seed):
    labels = np.repeat(np.arange(10), counts_per_class(n_images))
    rows = _rows(labels, seed)
    twins, neighbours = copies(rows)
    assert len(twins) == round(59 * n_images / 17736)
    assert len(neighbours) == round(67 * n_images / 17736)
    assert n_images > 130 or rows == own(labels)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Return the columns of a file with two twins and two neighbours, and the sources of its rows."""
    path = make(tmp_path_factory.mktemp("standin") / "larger.h5", 600, seed=4)
    columns = read(path)
    return columns, _rows(columns[LABELS], 4)


def test_a_twin_is_its_original_under_another_label(larger):
    columns, rows = larger
    twins, _ = copies(rows)
    assert len(twins) == 2
    originals = [rows[k].index for k in twins]
    assert (columns[LABELS][twins] != columns[LABELS][originals]).all()
    for name in (IMAGES, TRUTH, *FLOAT_COLUMNS):
        np.testing.assert_array_equal(columns[name][twins], columns[name][originals])


def test_the_audit_finds_twins_and_neighbours_and_nothing_else(larger):
    columns, rows = larger
    twins, neighbours = copies(rows)
    pairs, separation = close_pairs(columns["ra"], columns["dec"], 10.01)
    found = {tuple(map(int, pair)): apart for pair, apart in zip(pairs, separation, strict=True)}
    # The separation of twins is exactly 0.
    expected = {tuple(sorted((k, rows[k].index))): np.hypot(rows[k].dx, rows[k].dy) for k in twins + neighbours}
    assert found == pytest.approx(expected, rel=1e-3, abs=0)


@pytest.mark.parametrize(("dx", "dy"), [(6.0, 0.0), (-3.0, 5.0), (0.0, -9.0), (2.1, 2.1)])
def test_a_neighbours_image_is_its_originals_shifted_by_their_separation(dx, dy):
    (row,) = own([1], first=3)
    original = _render(6, row, 128)
    neighbour = _render(6, row._replace(dx=dx, dy=dy), 128)
    pixel = original[2][3] * 256 / 128
    right, down = round(dx / pixel), round(dy / pixel)
    assert right or down
    for shifted, image in zip(neighbour[:2], original[:2], strict=True):
        inner = (slice(20, -20), slice(20, -20))
        np.testing.assert_array_equal(shifted[inner], np.roll(image, (down, right), axis=(0, 1))[inner])
    assert neighbour[2][2:] == original[2][2:]
    # East is left and north is up: a galaxy right of the middle and below it is west and south of it.
    frame, galaxy = (SkyCoord(*part[2][:2], unit=units.deg) for part in (neighbour, original))
    east, north = frame.spherical_offsets_to(galaxy)
    assert east.arcsec == pytest.approx(-dx, abs=0.01)
    assert north.arcsec == pytest.approx(-dy, abs=0.01)


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
    # The published cutouts were compressed, which reduces the noise.
    compressed = as_jpeg(cutouts[0])
    sky = np.array([[sky_of(image[..., c]) for c in range(3)] for image in compressed])
    level, spread = (published_measurements()[[f"{name}_{band}" for band in "rgb"]] for name in ("sky", "sky_std"))
    assert np.median(sky[..., 0]) == pytest.approx(np.median(level), abs=2)
    assert np.median(sky[..., 1]) == pytest.approx(np.median(spread), rel=0.2)
    assert sky[..., 1].std() > 1


def test_axis_ratios_order_the_smooth_and_edge_on_classes():
    def flattening(label):
        truth = _render_block(4, own(np.full(16, label)), 128)[1].mean(-1)
        cores = [np.argwhere(image[34:94, 34:94] > 90) for image in truth]
        smaller, larger = np.transpose([np.linalg.eigvalsh(np.cov(core.T)) for core in cores])
        return np.median(np.sqrt(smaller / larger))

    assert flattening(2) > flattening(3) > flattening(4) > flattening(8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_images": 9}, ValueError, "n_images is 9, but at least 10 is needed: give"),
        ({"image_size": 31}, ValueError, "image_size is 31, but at least 32 is needed: give"),
        ({"seed": -1}, ValueError, "seed is -1, but an integer of at least 0 is needed: give"),
        ({"workers": 0}, ValueError, "workers is 0, but at least 1 is needed: give"),
        *[
            ({name: 64.5}, TypeError, rf"{name} is 64\.5, but an integer is needed: give")
            for name in ("n_images", "image_size", "seed", "workers")
        ],
    ],
)
def test_bad_values_and_types_are_refused_by_name(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        make(tmp_path / "new" / "x.h5", **options)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = make(tmp_path / "x.h5")
    before = path.read_bytes()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("galaxynb.standin.make._render_block", fail)
    with pytest.raises(MemoryError):
        make(path, seed=1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = r"x\.h5 is not written \(.*\), but .* is needed: free some space or choose another path"
    with pytest.raises(OSError, match=message):
        make(tmp_path / "file" / "x.h5")


def test_a_dying_worker_leaves_nothing(tmp_path):
    def kill_one():
        # Wait until both have started: if a pool breaks while it starts a process, CPython may wait for it for ever.
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        multiprocessing.active_children()[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    message = "a worker process of make_standin is dead, but all are needed: run it again"
    with pytest.raises(RuntimeError, match=message):
        make(tmp_path / "x.h5", 2000, workers=2)
    killer.join()
    assert not list(tmp_path.iterdir())
    assert not multiprocessing.active_children()


def test_a_full_disk_leaves_nothing(tmp_path):
    # A limit on the size of files imitates a full disk. Use another process, because a limit cannot be raised again.
    script = """
import sys
from galaxynb.standin.make import make_standin
try:
    make_standin(sys.argv[1], 100, image_size=64, workers=1, progress=False)
except OSError as error:
    print(error)
"""
    limit = 300_000  # bytes, well under the 2 MB of 100 images
    command = [sys.executable, "-c", script, os.fspath(tmp_path / "x.h5")]
    restrict = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run(command, preexec_fn=restrict, capture_output=True, text=True)
    assert done.returncode == 0
    assert "x.h5 is not written (File too large), but " in done.stdout
    assert done.stdout.endswith("is needed: free some space or choose another path\n")
    assert not done.stderr
    assert not list(tmp_path.iterdir())

"""Batches hold the right images, settings decide digests, and interrupted trainings lose nothing."""

import json
import math
import random
import shutil
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from galaxynb.fingerprints import code_digest
from galaxynb.images import to_float
from galaxynb.networks import batches, training
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.batches import ClassifierBatches, DenoisingBatches, one_opencv_thread
from galaxynb.networks.models import compile_model, load_model
from galaxynb.networks.training import Phase, best_epoch, fit, settings_digest
from galaxynb.noise import NoiseModel

NOISE = NoiseModel(n_stars=(1, 3))


def random_images(n, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def numbered_images(n):
    """Return images that show their row: every pixel of image i is i."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 4, 3))


def rows_of(images):
    return np.rint(255 * np.asarray(images)[:, 0, 0, 0]).astype(int).tolist()


def symmetries(image):
    """Return the eight symmetric versions of an image."""
    return [np.rot90(mirrored, k) for mirrored in (image, image[::-1]) for k in range(4)]


# --- batches


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.integers(0, 59), min_size=1, max_size=40, unique=True),
    batch_size=st.integers(1, 45),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 500),
    shuffle=st.booleans(),
)
def test_every_row_comes_exactly_once_per_epoch(rows, batch_size, seed, epoch, shuffle):
    labels = np.random.default_rng(0).integers(0, 10, 60).astype(np.uint8)
    data = ClassifierBatches(numbered_images(60), labels, rows, batch_size=batch_size, seed=seed, training=shuffle)
    data.set_epoch(epoch)
    batches = [data[number] for number in range(len(data))]
    assert [len(images) for images, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches[-1][0]) == (len(rows) - 1) % batch_size + 1
    seen = [row for images, _ in batches for row in rows_of(images)]
    assert sorted(seen) == sorted(rows)
    if not shuffle:
        assert seen == rows
    np.testing.assert_array_equal(np.concatenate([part for _, part in batches]), labels[seen])


def orders(seed, epochs, training=True):
    data = DenoisingBatches(numbered_images(50), np.arange(50), batch_size=16, seed=seed, training=training)
    result = []
    for epoch in epochs:
        data.set_epoch(epoch)
        result.append([row for number in range(len(data)) for row in rows_of(data[number][1])])
    return result


def test_the_order_follows_seed_and_epoch_alone():
    first, second, third = orders(0, [1, 2, 3])
    assert first != second != third != first
    assert orders(0, [3, 1]) == [third, first]
    assert orders(1, [1]) != [first]
    for order in orders(0, [0, 1, 7], training=False):
        assert order == list(range(50))


def test_batches_are_float32_and_may_come_from_a_mapped_file(tmp_path):
    images = random_images(5)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for data in (
        ClassifierBatches(mapped, np.arange(5), [3, 1], batch_size=2, seed=0, training=False),
        DenoisingBatches(mapped, [3, 1], batch_size=2, seed=0, training=False),
    ):
        batch, _ = data[0]
        assert batch.dtype == np.float32
        np.testing.assert_array_equal(batch, to_float(images[[3, 1]]))


@pytest.mark.parametrize("kind", ["cutouts", "pairs"])
def test_augmentation_is_one_of_the_squares_symmetries(kind):
    images = random_images(60, side=8)
    if kind == "cutouts":
        data = ClassifierBatches(images, np.arange(60), np.arange(60), batch_size=25, seed=0, augment=True)
    else:
        data = DenoisingBatches(images, np.arange(60), batch_size=25, seed=0, augment=True)
    used = set()
    for epoch in (1, 2):
        data.set_epoch(epoch)
        for number in range(len(data)):
            rows, _ = data.batch(number)
            for image, row in zip(data[number][0], rows, strict=True):
                matches = [np.array_equal(image, turned) for turned in symmetries(to_float(images[row]))]
                assert sum(matches) == 1
                used.add(matches.index(True))
    assert used == set(range(8))
    if kind == "cutouts":
        np.testing.assert_array_equal(data[0][1], data.batch(0)[0])  # each label still belongs to its image


@pytest.mark.parametrize("how", [{"training": True, "augment": False}, {"training": False, "augment": True}])
def test_images_are_turned_in_training_only_and_if_wanted(how):
    images = random_images(9)
    for data in (
        ClassifierBatches(images, np.arange(9), np.arange(9), batch_size=9, seed=0, **how),
        DenoisingBatches(images, range(9), batch_size=9, seed=0, **how),
    ):
        data.set_epoch(3)
        np.testing.assert_array_equal(data[0][0], to_float(images[data.batch(0)[0]]))


def test_raw_to_raw_gives_the_same_images_twice():
    inputs, targets = DenoisingBatches(random_images(4), range(4), batch_size=4, seed=0)[0]
    np.testing.assert_array_equal(inputs, targets)


@pytest.mark.parametrize("augment", [False, True])
def test_noise_is_fresh_each_epoch_and_targets_stay_raw(augment):
    images = random_images(12)
    data = DenoisingBatches(images, np.arange(12), batch_size=5, seed=7, noise=NOISE, augment=augment)
    inputs = []
    for epoch in (1, 2):
        data.set_epoch(epoch)
        of_epoch = {}
        for number in range(len(data)):
            rows, _ = data.batch(number)
            noisy, raw = data[number]
            np.testing.assert_array_equal(noisy, NOISE.apply(raw, 7, rows, epoch=epoch))
            if not augment:
                np.testing.assert_array_equal(raw, to_float(images[rows]))
            of_epoch |= dict(zip(rows.tolist(), noisy, strict=True))
        inputs.append(of_epoch)
    assert all(not np.array_equal(inputs[0][row], inputs[1][row]) for row in range(12))


@pytest.mark.parametrize("room", [0, 2**20])
def test_validation_noise_is_made_once_where_there_is_room_for_it(monkeypatch, room):
    monkeypatch.setattr(batches, "_MOST_KEPT", room)
    made = []

    class Counted(NoiseModel):
        def apply(self, images, *args, **options):
            made.append(len(images))
            return super().apply(images, *args, **options)

    images = random_images(10)
    validation = DenoisingBatches(
        images, np.arange(4, 10), batch_size=4, seed=0, noise=Counted(n_stars=(1, 3)), training=False, threads=1
    )
    first, again = ([validation[number][0] for number in (0, 1)] for _ in range(2))
    assert made == ([4, 2] if room else [4, 2, 4, 2])
    for one, other, rows in zip(first, again, ([4, 5, 6, 7], [8, 9]), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, NoiseModel(n_stars=(1, 3)).apply(images[rows], 0, rows))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_noise_is_the_same_whatever_number_of_threads_puts_it_on(threads):
    images = random_images(10)
    for how in ({"augment": True}, {"training": False}):
        data = DenoisingBatches(images, np.arange(10), batch_size=4, seed=7, noise=NOISE, threads=threads, **how)
        expected = DenoisingBatches(images, np.arange(10), batch_size=4, seed=7, noise=NOISE, threads=1, **how)
        for number in range(len(data)):
            for one, other in zip(data[number], expected[number], strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("lent", "threads"), [("1", 1), ("2", 2), ("64", 2)])
def test_as_many_threads_put_noise_on_as_there_are_cores_up_to_two(monkeypatch, lent, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", lent)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    used = set()

    class Watched(NoiseModel):
        def apply(self, *args, **options):
            used.add(threading.get_ident())
            both.wait(timeout=60)
            return super().apply(*args, **options)

    both = threading.Barrier(threads)
    DenoisingBatches(random_images(8), range(8), batch_size=8, seed=0, noise=Watched(n_stars=(1, 3)))[0]
    assert len(used) == threads
    assert (threading.get_ident() in used) == (threads == 1)


def test_what_fails_in_a_thread_is_raised():
    data = DenoisingBatches(
        random_images(4), [0, 1, 2, -1], batch_size=4, seed=0, noise=NOISE, training=False, threads=2
    )
    with pytest.raises(ValueError, match="index is -1"):
        data[0]


def test_new_batches_begin_where_tensorflow_takes_them_over_uncopied():
    images = random_images(5, side=9)
    labels = np.zeros(5, int)
    for _ in range(8):
        noisy, raw = DenoisingBatches(images, range(5), batch_size=3, seed=0, noise=NOISE)[1]
        cutouts, _ = ClassifierBatches(images, labels, range(5), batch_size=5, seed=0)[0]
        assert [array.ctypes.data % 64 for array in (noisy, raw, cutouts)] == [0, 0, 0]


def test_opencv_gets_its_threads_back():
    before = cv2.getNumThreads()
    with pytest.raises(KeyError), one_opencv_thread():
        raise KeyError(cv2.getNumThreads())
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_validation_always_has_the_noise_of_epoch_0():
    images = random_images(4)
    data = DenoisingBatches(images, np.arange(4), batch_size=4, seed=7, noise=NOISE, training=False)
    expected = NOISE.apply(images, 7, np.arange(4), epoch=0)
    for epoch in (0, 1, 5):
        data.set_epoch(epoch)
        noisy, raw = data[0]
        np.testing.assert_array_equal(noisy, expected)
        np.testing.assert_array_equal(raw, to_float(images))


@pytest.mark.parametrize("batch_size", [0, -3])
def test_an_empty_batch_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}, but"):
        DenoisingBatches(random_images(2), [0, 1], batch_size=batch_size, seed=0)


def test_a_negative_phase_is_refused():
    with pytest.raises(ValueError, match="epochs of phase 'noisy' is -1"):
        Phase("noisy", -1, None, validation=None)


# --- settings


@dataclass(frozen=True)
class _Part:
    value: float


def test_a_digest_depends_on_every_value():
    examples = [
        {"rate": 1e-3, "noise": NOISE},
        {"rate": 1e-4, "noise": NOISE},
        {"rate": 1e-3, "noise": NoiseModel(n_stars=(1, 3), sigma=0.11)},
        {"rate": 1e-3},
        {"learning_rate": 1e-3, "noise": NOISE},
        {"rate": None, "noise": NOISE},
        {"rate": 1e-3, "noise": _Part(1.0)},
        {"rate": 1e-3, "noise": {"part": [_Part(1.0), 2]}},
        {},
    ]
    digests = [settings_digest("autoencoder", **example) for example in examples]
    assert len(set(digests)) == len(examples)
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)
    assert (
        settings_digest("autoencoder", noise=NoiseModel(n_stars=(1, 3)), rate=1e-3) == digests[0]
    )  # order means nothing


def test_a_digest_depends_on_backend_and_keras(monkeypatch):
    before = settings_digest("classifier", a=1)
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    other_backend = settings_digest("classifier", a=1)
    monkeypatch.undo()
    monkeypatch.setattr(keras, "__version__", "0.0")
    assert len({before, other_backend, settings_digest("classifier", a=1)}) == 3


def test_a_digest_depends_on_the_code_that_the_training_uses(tmp_path, monkeypatch):
    package = Path(shutil.copytree(ROOT / "galaxynb", tmp_path / "galaxynb"))
    monkeypatch.setattr(training, "code_digest", partial(code_digest, package=package))
    networks = ("classifier", "autoencoder")

    def changed(module, code):
        """Append code to a module of the copy, and return the networks whose digests change."""
        before = {network: settings_digest(network, a=1) for network in networks}
        with (package / f"{module}.py").open("a", encoding="utf-8") as file:
            file.write(code)
        return {network for network in networks if settings_digest(network, a=1) != before[network]}

    assert changed("networks/models", "# a comment\n") == set()
    assert changed("networks/models", "CHANGED = 1\n") == set(networks)
    assert changed("networks/training", "CHANGED = 1\n") == set(networks)
    assert changed("images", "CHANGED = 1\n") == set(networks)
    assert changed("data/splits", "CHANGED = 1\n") == set(networks)
    assert changed("data/cache", "CHANGED = 1\n") == set(networks)
    # Checkpoints of the classifier outlive a change of the noise, and both trainings one of the downloader.
    assert changed("noise", "CHANGED = 1\n") == {"autoencoder"}
    assert changed("networks/device_noise", "CHANGED = 1\n") == {"autoencoder"}
    assert changed("data/download", "CHANGED = 1\n") == set()
    assert changed("figures/training", "CHANGED = 1\n") == set()


def test_settings_must_be_writable():
    with pytest.raises(TypeError):
        settings_digest("classifier", images=np.zeros(3))


# --- the best epoch


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 10), st.just(math.nan)), min_size=1, max_size=20))
def test_the_best_epoch_is_the_first_of_the_lowest(losses):
    rows = [{"epoch": epoch, "val_loss": loss} for epoch, loss in enumerate(losses, start=1)]
    best = best_epoch(rows, "val_loss")
    assert best == best_epoch(pd.DataFrame(rows), "val_loss")
    if all(map(math.isnan, losses)):
        assert best == 1
    else:
        assert losses[best - 1] == np.nanmin(losses)
        assert np.nanmin(losses) not in losses[: best - 1]


def test_an_empty_history_has_no_best_epoch():
    assert best_epoch([], "val_loss") == 0
    assert best_epoch(pd.DataFrame(), "val_loss") == 0


# --- fit: the autoencoder's two phases, whole and interrupted

EPOCHS, BATCHES = 4, 3  # two phases of two epochs; batches per epoch, the last one smaller
WHOLE = ["epoch-0003.keras", "epoch-0004.keras", "history.json"]


class Watched(DenoisingBatches):
    """Batches that record which batch was requested in which epoch."""

    def __init__(self, *args, asked=None, **kwargs):
        self.asked = [] if asked is None else asked
        super().__init__(*args, **kwargs)

    def __getitem__(self, number):
        self.asked.append((self.training, self.epoch, number))
        return super().__getitem__(number)


def two_phases(kind=Watched, **kwargs):
    images = random_images(13)
    return [
        Phase(
            name,
            2,
            kind(images, np.arange(10), batch_size=4, seed=5, noise=noise, augment=True, **kwargs),
            validation=kind(images, np.arange(10, 13), batch_size=4, seed=5, noise=noise, training=False, **kwargs),
        )
        for name, noise in (("raw", None), ("noisy", NOISE))
    ]


def tiny_autoencoder(seed=11):
    model = build_autoencoder(32, filters=(4,), seed=seed)
    return compile_model(model, "mse", learning_rate=0.01, decay_steps=EPOCHS * BATCHES)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_training(result, expected):
    """Compare the histories, except for seconds, and the bits of weights and optimizers."""
    (model, history), (expected_model, expected_history) = result, expected
    pd.testing.assert_frame_equal(
        history.drop(columns="seconds"), expected_history.drop(columns="seconds"), check_exact=True
    )
    for one, other in (
        (model.weights, expected_model.weights),
        (model.optimizer.variables, expected_model.optimizer.variables),
    ):
        for variable, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(np.asarray(variable.numpy()), np.asarray(wanted.numpy()))


@dataclass(frozen=True)
class _Whole:
    result: tuple
    folder: Path
    said: list
    asked: list


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Train once without interruption. Every interrupted training must give the same result."""
    folder = tmp_path_factory.mktemp("whole") / "made" / "by fit"
    said, asked = [], []
    result = fit(tiny_autoencoder(), two_phases(asked=asked), folder, digest="recipe", log=said.append)
    return _Whole(result, folder, said, asked)


@pytest.fixture
def kept(whole, tmp_path):
    """Return a copy of the folder of the whole training."""
    return Path(shutil.copytree(whole.folder, tmp_path / "kept"))


def test_history_counts_epochs_through_the_phases(whole):
    _, history = whole.result
    assert list(history.columns) == ["epoch", "phase", "loss", "val_loss", "seconds"]
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert list(history["phase"]) == ["raw", "raw", "noisy", "noisy"]
    assert np.isfinite(history[["loss", "val_loss", "seconds"]]).all(axis=None)
    assert history["loss"].nunique() == EPOCHS


def test_one_line_per_epoch_is_logged(whole):
    _, history = whole.result
    assert len(whole.said) == EPOCHS
    for line, row in zip(whole.said, history.itertuples(), strict=True):
        assert line.startswith(f"epoch   {row.epoch}/4 {row.phase}  loss {row.loss:.4f}  val_loss")


def test_each_epoch_is_trained_on_its_own_batches_in_their_order(whole):
    for epoch in range(1, EPOCHS + 1):
        assert [n for trains, e, n in whole.asked if trains and e == epoch] == list(range(BATCHES))
    assert {epoch for trains, epoch, _ in whole.asked if not trains} == {0}


def test_only_the_last_checkpoints_and_the_history_are_left(whole):
    assert files_in(whole.folder) == WHOLE
    _, history = whole.result
    content = json.loads((whole.folder / "history.json").read_text())
    assert content == {"digest": "recipe", "epochs": history.to_dict("records")}


def test_training_lowers_the_loss_and_the_checkpoint_is_the_model(whole):
    model, history = whole.result
    assert history["loss"].iloc[1] < history["loss"].iloc[0]
    loaded = load_model(whole.folder / "epoch-0004.keras", "this test")
    images = to_float(random_images(3))
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_global_random_states_do_not_matter(whole, tmp_path):
    model = tiny_autoencoder()
    random.seed(99)
    keras.utils.set_random_seed(99)
    assert_same_training(fit(model, two_phases(), tmp_path, digest="recipe", log=str), whole.result)


@pytest.mark.parametrize("after", [2, 3], ids=["between phases", "within a phase"])
def test_an_interrupted_training_comes_to_the_same(whole, tmp_path, after):
    class Interrupted(Exception):  # noqa: N818 -- what Ctrl-C does, without ending the tests
        pass

    def log(line):
        if line.startswith(f"epoch   {after}/"):
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(tiny_autoencoder(), two_phases(), tmp_path, digest="recipe", log=log)
    said = []
    # Start from other weights: if the checkpoint were not used, the result would differ.
    result = fit(tiny_autoencoder(seed=0), two_phases(), tmp_path, digest="recipe", log=said.append)
    assert_same_training(result, whole.result)
    assert said[0].startswith(f"going on after epoch {after} of 4")
    assert [line.split("/")[0] for line in said[1:]] == [f"epoch   {n}" for n in range(after + 1, 5)]
    assert files_in(tmp_path) == WHOLE


def test_a_finished_training_is_not_repeated(whole, kept):
    said = []
    before = (kept / "history.json").read_bytes()
    phases = two_phases()
    result = fit(tiny_autoencoder(seed=0), phases, kept, digest="recipe", log=said.append)
    assert_same_training(result, whole.result)
    assert said == [f"going on after epoch 4 of 4, from {kept / 'epoch-0004.keras'}"]
    assert not any(phase.training.asked for phase in phases)
    assert (kept / "history.json").read_bytes() == before
    assert result[1]["seconds"].equals(whole.result[1]["seconds"])


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_means_the_one_before(whole, kept, damage):
    last = kept / "epoch-0004.keras"
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:5000])
    said = []
    result = fit(tiny_autoencoder(seed=0), two_phases(), kept, digest="recipe", log=said.append)
    assert_same_training(result, whole.result)
    assert said[0].startswith("going on after epoch 3 of 4")
    assert len(said) == 2
    assert files_in(kept) == WHOLE


def test_without_a_readable_checkpoint_training_starts_afresh(whole, kept):
    for path in kept.glob("*.keras"):
        path.write_bytes(b"not a model")
    said = []
    result = fit(tiny_autoencoder(), two_phases(), kept, digest="recipe", log=said.append)
    assert_same_training(result, whole.result)
    assert "can be read; training starts afresh" in said[0]
    assert len(said) == 1 + EPOCHS
    assert files_in(kept) == WHOLE


# --- fit: early stopping, on a network with one weight, which each epoch moves to its target


class Targets(keras.utils.PyDataset):
    """One target per epoch. With squared errors and a rate of 1/2, one step moves the weight to the target."""

    def __init__(self, targets):
        super().__init__()
        self.targets = targets
        self.set_epoch(0)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 1

    def __getitem__(self, number):
        target = self.targets[max(self.epoch - 1, 0)]
        return np.ones((1, 1), np.float32), np.full((1, 1), target, np.float32)


def one_weight():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.5), loss="mse", run_eagerly=True)
    return model


def follow(targets, folder, digest="recipe", validation=0.0, log=str, **kwargs):
    """Train one weight through `targets`. Its validation loss is the squared distance from `validation`."""
    phase = Phase("only", len(targets), Targets(targets), validation=Targets([validation]))
    return fit(one_weight(), [phase], folder, digest=digest, log=log, **kwargs)


def weight_of(model):
    return float(model.get_weights()[0].item())


@pytest.mark.parametrize("metrics", [[], ["mean_absolute_error"]])
def test_each_step_is_traced_once(tmp_path, metrics):
    traced = []

    class Counted(keras.layers.Layer):
        def call(self, inputs, training=False):
            traced.append(training)
            return inputs

    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(Counted()(inputs)))
    compile_model(model, "mean_squared_error", metrics=metrics)
    traced.clear()
    steps = Targets([1.0, 1.0, 1.0]), Targets([0.0])
    _, history = fit(
        model,
        [Phase("one", 2, steps[0], validation=steps[1]), Phase("two", 1, steps[0], validation=steps[1])],
        tmp_path,
        digest="recipe",
        log=str,
    )
    assert sorted(traced) == [False, True]  # validation, training
    assert {*metrics, "loss"} < set(history.columns)


def test_without_patience_the_last_weights_are_kept(tmp_path):
    model, history = follow([3, 1, 2, 4], tmp_path)
    assert weight_of(model) == pytest.approx(4)
    np.testing.assert_allclose(history["val_loss"], [9, 1, 4, 16])
    assert files_in(tmp_path) == WHOLE


def test_patience_stops_and_restores_the_best_weights(tmp_path):
    said = []
    model, history = follow([3, 1, 2, 4, 0, 0], tmp_path, patience=2, log=said.append)
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert weight_of(model) == pytest.approx(1)
    assert said[-2:] == [
        "stopped early: 2 epochs without a lower val_loss",
        "weights of epoch 2, the best, are restored",
    ]
    assert files_in(tmp_path) == ["epoch-0002.keras", *WHOLE]

    again = []
    repeated, same = follow([3, 1, 2, 4, 0, 0], tmp_path, patience=2, log=again.append)
    pd.testing.assert_frame_equal(same, history)
    assert weight_of(repeated) == pytest.approx(1)
    assert [line.split()[0] for line in again] == ["going", "weights"]


def test_a_lower_loss_renews_patience(tmp_path):
    model, history = follow([3, 4, 2, 5, 1, 6, 7], tmp_path, patience=2)
    assert list(history["epoch"]) == list(range(1, 8))
    assert weight_of(model) == pytest.approx(1)
    assert files_in(tmp_path) == ["epoch-0005.keras", "epoch-0006.keras", "epoch-0007.keras", "history.json"]


def test_the_best_weights_are_restored_at_the_end_too(tmp_path):
    model, history = follow([3, 1, 2], tmp_path, patience=5)
    assert len(history) == 3
    assert weight_of(model) == pytest.approx(1)


def test_the_first_of_equal_epochs_is_the_best(tmp_path):
    model, history = follow([1, -1, 1, 0], tmp_path, patience=2)
    assert len(history) == 3
    assert best_epoch(history, "val_loss") == 1
    assert weight_of(model) == pytest.approx(1)


def test_patience_is_remembered_over_an_interruption(tmp_path):
    targets = [3, 1, 2, 4, 0, 0]

    def log(line):
        if line.startswith("epoch   3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(targets, tmp_path, patience=2, log=log)
    model, history = follow(targets, tmp_path, patience=2)
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert weight_of(model) == pytest.approx(1)
    assert files_in(tmp_path) == ["epoch-0002.keras", *WHOLE]


def test_the_earlier_best_is_there_when_the_latest_is_damaged(tmp_path):
    """Some devices do not reproduce bits, so the repeated epoch may not be the best again."""
    follow([1, 3, 4, 0.5], tmp_path, patience=5)
    (tmp_path / "epoch-0004.keras").write_bytes(b"damaged")
    model, history = follow([1, 3, 4, 5], tmp_path, patience=5)
    np.testing.assert_allclose(history["val_loss"], [1, 9, 16, 25])
    assert weight_of(model) == pytest.approx(1)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_lost_best_checkpoint_gives_one_clear_sentence(tmp_path, damage):
    follow([1, 2, 3], tmp_path, patience=5)
    best = tmp_path / "epoch-0001.keras"
    content = best.read_bytes()
    best.unlink()
    if damage == "truncated":
        best.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError,
        match=r"epoch-0001\.keras, the checkpoint of the best .* missing or damaged, but it is needed: delete",
    ):
        follow([1, 2, 3], tmp_path, patience=5)


# --- fit: other settings, faults and refusals


def test_other_settings_start_afresh(tmp_path):
    follow([1, 2, 3, 4, 5], tmp_path)
    said = []
    model, history = follow([7, 8], tmp_path, digest="another", log=said.append)
    assert said[0] == f"the checkpoints in {tmp_path} belong to a training with other settings; training starts afresh"
    assert list(history["epoch"]) == [1, 2]
    assert weight_of(model) == pytest.approx(8)
    assert files_in(tmp_path) == ["epoch-0001.keras", "epoch-0002.keras", "history.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[]", b"null", b'{"digest": "recipe"}', bytes(500), b"\xff\xfe"]
)
def test_a_damaged_history_starts_afresh(tmp_path, content):
    follow([1, 2, 3], tmp_path)
    (tmp_path / "history.json").write_bytes(content)
    said = []
    _, history = follow([4, 5], tmp_path, log=said.append)
    assert said[0].endswith("training starts afresh")
    assert list(history["val_loss"]) == pytest.approx([16, 25])
    assert files_in(tmp_path) == ["epoch-0001.keras", "epoch-0002.keras", "history.json"]


def test_a_kill_between_checkpoint_and_history_loses_an_epoch_at_most(tmp_path, monkeypatch):
    written = []

    def write_json(path, value):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        real(path, value)

    real = training.write_json
    monkeypatch.setattr(training, "write_json", write_json)
    with pytest.raises(OSError, match="No space left"):
        follow([1, 2, 3], tmp_path)
    monkeypatch.undo()
    said = []
    model, history = follow([1, 2, 3], tmp_path, log=said.append)
    assert said[0].startswith("going on after epoch 1 of 3")
    assert list(history["epoch"]) == [1, 2, 3]
    assert weight_of(model) == pytest.approx(3)
    assert files_in(tmp_path) == ["epoch-0002.keras", "epoch-0003.keras", "history.json"]


def test_a_kill_before_the_clearing_up_leaves_no_old_checkpoint(tmp_path, monkeypatch):
    """This holds after the last epoch too, which no later epoch follows to remove checkpoints."""

    def unlink(path, *args, **kwargs):
        if path.name == "epoch-0002.keras":
            raise KeyboardInterrupt
        real(path, *args, **kwargs)

    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        follow([1, 2, 3, 4], tmp_path)
    monkeypatch.undo()
    assert files_in(tmp_path) == ["epoch-0002.keras", *WHOLE]
    model, _ = follow([1, 2, 3, 4], tmp_path)
    assert weight_of(model) == pytest.approx(4)
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("targets", "validation", "message"),
    [
        ([1, 2, math.nan, 4], 0.0, "^loss of epoch 3 is nan, but a finite number is needed: lower learning_rate"),
        ([1, 2], math.nan, "^val_loss of epoch 1 is nan, but a finite number is needed: lower learning_rate"),
    ],
)
def test_a_loss_that_is_no_number_gives_one_clear_sentence(tmp_path, targets, validation, message):
    with pytest.raises(ValueError, match=message):
        follow(targets, tmp_path, validation=validation)
    if validation == 0:  # the checkpoints of earlier epochs are intact
        assert files_in(tmp_path) == ["epoch-0001.keras", "epoch-0002.keras", "history.json"]
        load_model(tmp_path / "epoch-0002.keras", "this test")
    else:
        assert not tmp_path.exists() or files_in(tmp_path) == []


def test_phases_without_epochs_are_left_out(tmp_path):
    data = Targets([1, 2])
    phases = [Phase(name, epochs, data, validation=data) for name, epochs in (("raw", 0), ("noisy", 2), ("after", 0))]
    _, history = fit(one_weight(), phases, tmp_path, digest="recipe", log=str)
    assert list(history["phase"]) == ["noisy", "noisy"]


@pytest.mark.parametrize("phases", [[], [Phase("raw", 0, Targets([1]), validation=Targets([1]))]])
def test_nothing_to_train_is_refused(tmp_path, phases):
    with pytest.raises(ValueError, match="the sum of all phases' epochs is 0, but 1 or more"):
        fit(one_weight(), phases, tmp_path, digest="recipe")


@pytest.mark.parametrize("patience", [0, -1])
def test_patience_below_one_is_refused(tmp_path, patience):
    with pytest.raises(ValueError, match=f"patience is {patience}, but 1 epoch or more"):
        follow([1], tmp_path, patience=patience)

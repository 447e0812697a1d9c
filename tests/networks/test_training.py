"""Batches hold the right images, settings decide digests, and interrupted trainings lose nothing."""

import json
import math
import random
import shutil
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

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
from galaxynb.networks.checkpoints import restore_variables, save_variables
from galaxynb.networks.models import compile_model
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
    parts = [data[number] for number in range(len(data))]
    last = (len(rows) - 1) % batch_size + 1
    assert [len(images) for images, _ in parts] == [batch_size] * (len(parts) - 1) + [last]
    seen = [row for images, _ in parts for row in rows_of(images)]
    assert (sorted(seen) if shuffle else seen) == (sorted(rows) if shuffle else rows)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels[seen])


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


def cutouts(images, rows, **how):
    """Batches for the classifier, of images that are labelled with their rows."""
    return ClassifierBatches(images, np.arange(len(images)), rows, seed=0, **how)


pairs = partial(DenoisingBatches, seed=0)
both_kinds = pytest.mark.parametrize("kind", [cutouts, pairs], ids=["cutouts", "pairs"])


@both_kinds
def test_batches_are_float32_and_may_come_from_a_mapped_file(tmp_path, kind):
    images = random_images(5)
    np.save(tmp_path / "images.npy", images)
    batch, _ = kind(np.load(tmp_path / "images.npy", mmap_mode="r"), [3, 1], batch_size=2, training=False)[0]
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, to_float(images[[3, 1]]))


@both_kinds
def test_augmentation_is_one_of_the_squares_symmetries(kind):
    images = random_images(60, side=8)
    data = kind(images, np.arange(60), batch_size=25, augment=True)
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
    if kind is cutouts:
        np.testing.assert_array_equal(data[0][1], data.batch(0)[0])  # the label is still the image's


@both_kinds
@pytest.mark.parametrize("how", [{"training": True, "augment": False}, {"training": False, "augment": True}])
def test_images_are_turned_in_training_only_and_if_wanted(kind, how):
    images = random_images(9)
    data = kind(images, range(9), batch_size=9, **how)
    data.set_epoch(3)
    np.testing.assert_array_equal(data[0][0], to_float(images[data.batch(0)[0]]))


@pytest.mark.parametrize("augment", [False, True])
def test_noise_is_fresh_each_epoch_and_targets_stay_raw(augment):
    images = random_images(12)
    np.testing.assert_array_equal(*pairs(images, range(12), batch_size=12, augment=augment)[0])  # raw to raw
    data = DenoisingBatches(images, np.arange(12), batch_size=5, seed=7, noise=NOISE, augment=augment)
    inputs = {}
    for epoch in (1, 2):
        data.set_epoch(epoch)
        for number in range(len(data)):
            rows, _ = data.batch(number)
            noisy, raw = data[number]
            np.testing.assert_array_equal(noisy, NOISE.apply(raw, 7, rows, epoch=epoch))
            if not augment:
                np.testing.assert_array_equal(raw, to_float(images[rows]))
            inputs |= {(epoch, row): image for row, image in zip(rows.tolist(), noisy, strict=True)}
    assert not any(np.array_equal(inputs[1, row], inputs[2, row]) for row in range(12))


@pytest.mark.parametrize("room", [0, 2**20])
def test_validation_has_the_noise_of_epoch_0_made_once_where_there_is_room_for_it(monkeypatch, room):
    monkeypatch.setattr(batches, "_MOST_KEPT", room)
    made = []

    class Counted(NoiseModel):
        def apply(self, images, *args, **options):
            made.append(len(images))
            return super().apply(images, *args, **options)

    images, noise = random_images(10), Counted(n_stars=(1, 3))
    validation = pairs(images, np.arange(4, 10), batch_size=4, noise=noise, training=False, threads=1)
    for epoch in (0, 1, 5):
        validation.set_epoch(epoch)
        for number, rows in enumerate(([4, 5, 6, 7], [8, 9])):
            noisy, raw = validation[number]
            np.testing.assert_array_equal(noisy, NOISE.apply(images[rows], 0, rows, epoch=0))
            np.testing.assert_array_equal(raw, to_float(images[rows]))
    assert made == ([4, 2] if room else [4, 2] * 3)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_noise_is_the_same_whatever_number_of_threads_puts_it_on(threads):
    images = random_images(10)
    for how in ({"augment": True}, {"training": False}):
        data, expected = (
            pairs(images, np.arange(10), batch_size=4, noise=NOISE, threads=count, **how) for count in (threads, 1)
        )
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
    pairs(random_images(8), range(8), batch_size=8, noise=Watched(n_stars=(1, 3)))[0]
    assert len(used) == threads
    assert (threading.get_ident() in used) == (threads == 1)


def test_what_fails_in_a_thread_is_raised():
    data = pairs(random_images(4), [0, 1, 2, -1], batch_size=4, noise=NOISE, training=False, threads=2)
    with pytest.raises(ValueError, match="index is -1"):
        data[0]


def test_new_batches_begin_where_tensorflow_takes_them_over_uncopied():
    images = random_images(5, side=9)
    for _ in range(8):
        arrays = (*pairs(images, range(5), batch_size=3, noise=NOISE)[1], cutouts(images, range(5), batch_size=5)[0][0])
        assert [array.ctypes.data % 64 for array in arrays] == [0, 0, 0]


def test_opencv_gets_its_threads_back():
    before = cv2.getNumThreads()
    with pytest.raises(KeyError), one_opencv_thread():
        raise KeyError(cv2.getNumThreads())
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_an_empty_batch_and_a_negative_phase_are_refused():
    for batch_size in (0, -3):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}, but"):
            pairs(random_images(2), [0, 1], batch_size=batch_size)
    with pytest.raises(ValueError, match="epochs of phase 'noisy' is -1"):
        Phase("noisy", -1, None, validation=None)


@dataclass(frozen=True)
class _Part:
    value: float


def test_a_digest_depends_on_every_value_and_each_must_be_writable():
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
    # Order means nothing.
    assert settings_digest("autoencoder", noise=NoiseModel(n_stars=(1, 3)), rate=1e-3) == digests[0]
    with pytest.raises(TypeError):
        settings_digest("classifier", images=np.zeros(3))


def test_a_digest_depends_on_backend_and_keras():
    digests = {settings_digest("classifier", a=1)}
    for where, name, value in ((keras.backend, "backend", lambda: "another"), (keras, "__version__", "0.0")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, value)
            digests.add(settings_digest("classifier", a=1))
    assert len(digests) == 3


def test_a_digest_depends_on_the_code_that_the_training_uses(tmp_path, monkeypatch):
    package = Path(shutil.copytree(ROOT / "galaxynb", tmp_path / "galaxynb"))
    monkeypatch.setattr(training, "code_digest", partial(code_digest, package=package))
    networks = ("classifier", "autoencoder")

    def changed(module, code="CHANGED = 1\n"):
        """Append code to a module of the copy, and say whose digests differ then."""
        before = {network: settings_digest(network, a=1) for network in networks}
        with (package / f"{module}.py").open("a", encoding="utf-8") as file:
            file.write(code)
        return {network for network in networks if settings_digest(network, a=1) != before[network]}

    assert changed("networks/models", "# a comment\n") == set()
    for module in ("networks/models", "networks/training", "images", "data/splits", "data/cache"):
        assert changed(module) == set(networks)
    # Checkpoints of the classifier stay valid if the noise changes, and all checkpoints if the downloader changes.
    assert changed("noise") == changed("networks/device_noise") == {"autoencoder"}
    assert changed("data/download") == changed("figures/training") == set()


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 10), st.just(math.nan)), min_size=1, max_size=20))
def test_the_best_epoch_is_the_first_of_the_lowest_and_an_empty_history_has_none(losses):
    rows = [{"epoch": epoch, "val_loss": loss} for epoch, loss in enumerate(losses, start=1)]
    lowest = 0 if all(map(math.isnan, losses)) else losses.index(np.nanmin(losses))
    assert best_epoch(rows, "val_loss") == best_epoch(pd.DataFrame(rows), "val_loss") == 1 + lowest
    assert best_epoch([], "val_loss") == best_epoch(pd.DataFrame(), "val_loss") == 0


# --- fit: the autoencoder's two phases, whole and interrupted

EPOCHS, BATCHES = 4, 3  # two phases of two epochs; batches per epoch, the last one smaller
WHOLE = ["epoch-0003.npz", "epoch-0004.npz", "history.json"]


class Watched(DenoisingBatches):
    """Batches that record which batch was requested in which epoch."""

    def __init__(self, *args, asked=None, **kwargs):
        self.asked = [] if asked is None else asked
        super().__init__(*args, **kwargs)

    def __getitem__(self, number):
        self.asked.append((self.training, self.epoch, number))
        return super().__getitem__(number)


def two_phases(**kwargs):
    images = random_images(13)
    phases = []
    for name, noise in (("raw", None), ("noisy", NOISE)):
        of = partial(Watched, images, batch_size=4, seed=5, noise=noise, **kwargs)
        phases.append(Phase(name, 2, of(range(10), augment=True), validation=of(range(10, 13), training=False)))
    return phases


def tiny_autoencoder(seed=11):
    model = build_autoencoder(32, filters=(4,), seed=seed)
    return compile_model(model, "mse", learning_rate=0.01, decay_steps=EPOCHS * BATCHES)


def built(model):
    """Return a compiled model whose optimizer has its variables, as `fit` gives it to checkpoints."""
    model.optimizer.build(model.trainable_variables)
    return model


def train(folder, phases, seed=0):
    """Train or resume the autoencoder. Return the model, its history and the logged lines.

    The initial weights differ from those of `whole` unless `seed` is 11, so an unused checkpoint would be noticed.
    """
    said = []
    return fit(tiny_autoencoder(seed), phases, folder, digest="recipe", log=said.append), said


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_training(result, expected):
    """The same history, but for seconds, and the same bits in weights and optimizer."""
    histories = [history.drop(columns="seconds") for _, history in (result, expected)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    variables = [[*model.weights, *model.optimizer.variables] for model, _ in (result, expected)]
    for variable, wanted in zip(*variables, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.numpy()), np.asarray(wanted.numpy()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Train once without interruption: what every interrupted training must come to."""
    folder, asked = tmp_path_factory.mktemp("whole") / "made" / "by fit", []
    result, said = train(folder, two_phases(asked=asked), seed=11)
    return SimpleNamespace(result=result, folder=folder, said=said, asked=asked)


@pytest.fixture
def kept(whole, tmp_path):
    """Return a copy of the folder of the whole training."""
    return Path(shutil.copytree(whole.folder, tmp_path / "kept"))


def test_epochs_are_counted_through_the_phases_and_a_line_is_said_of_each(whole):
    _, history = whole.result
    assert list(history.columns) == ["epoch", "phase", "loss", "val_loss", "seconds"]
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert list(history["phase"]) == ["raw", "raw", "noisy", "noisy"]
    assert np.isfinite(history[["loss", "val_loss", "seconds"]]).all(axis=None)
    assert history["loss"].nunique() == EPOCHS
    for line, row in zip(whole.said, history.itertuples(), strict=True):
        assert line.startswith(f"epoch   {row.epoch}/4 {row.phase}  loss {row.loss:.4f}  val_loss")

    # Each epoch is trained on its own batches in their order.
    for epoch in range(1, EPOCHS + 1):
        assert [n for trains, e, n in whole.asked if trains and e == epoch] == list(range(BATCHES))
    assert {epoch for trains, epoch, _ in whole.asked if not trains} == {0}


def test_the_history_and_the_last_checkpoints_are_left_and_the_last_is_the_model(whole):
    _, history = whole.result
    assert files_in(whole.folder) == WHOLE
    content = json.loads((whole.folder / "history.json").read_text())
    assert content == {"digest": "recipe", "epochs": history.to_dict("records")}
    assert history["loss"][1] < history["loss"][0]  # it learns
    restored = built(tiny_autoencoder(0))
    restore_variables(restored, whole.folder / "epoch-0004.npz")
    assert_same_training((restored, history), whole.result)


def test_global_random_states_do_not_matter(whole, tmp_path):
    random.seed(99)
    keras.utils.set_random_seed(99)
    assert_same_training(train(tmp_path, two_phases(), seed=11)[0], whole.result)


def interrupt_after(epoch):
    """Return what logs until an epoch has ended, and does then what Ctrl-C does."""

    def log(line):
        if line.startswith(f"epoch   {epoch}/"):
            raise KeyboardInterrupt

    return log


@pytest.mark.parametrize("after", [2, 3], ids=["between phases", "within a phase"])
def test_an_interrupted_training_comes_to_the_same(whole, tmp_path, after):
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_autoencoder(), two_phases(), tmp_path, digest="recipe", log=interrupt_after(after))
    result, said = train(tmp_path, two_phases())
    assert_same_training(result, whole.result)
    assert said[0].startswith(f"going on after epoch {after} of 4")
    assert [line.split("/")[0] for line in said[1:]] == [f"epoch   {n}" for n in range(after + 1, 5)]
    assert files_in(tmp_path) == WHOLE


def test_a_finished_training_is_not_repeated(whole, kept):
    before, phases = (kept / "history.json").read_bytes(), two_phases()
    result, said = train(kept, phases)
    assert_same_training(result, whole.result)
    assert said == [f"going on after epoch 4 of 4, from {kept / 'epoch-0004.npz'}"]
    assert not any(phase.training.asked for phase in phases)
    assert (kept / "history.json").read_bytes() == before
    assert result[1]["seconds"].equals(whole.result[1]["seconds"])


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


both_damages = pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["truncated", "missing"])


def test_a_checkpoint_holds_the_states_of_seeds_and_every_dtype(tmp_path):
    layers = keras.layers
    models = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, seed=seed), layers.Dense(2)])
        models.append(built(compile_model(model, "mse")))
    one, other = models
    one.fit(np.ones((8, 4), np.float32), np.ones((8, 2), np.float32), verbose=0)
    save_variables(one, tmp_path / "one.npz")
    restore_variables(other, tmp_path / "one.npz")
    values = [
        [np.asarray(keras.ops.convert_to_numpy(v)) for v in (*m.variables, *m.optimizer.variables)] for m in models
    ]
    assert len({value.dtype for value in values[0]}) > 1
    for mine, its in zip(*values, strict=True):
        np.testing.assert_array_equal(mine, its, strict=True)


@pytest.mark.parametrize("change", ["a byte", "another network", "other dtypes"])
def test_an_unfit_checkpoint_is_refused_and_changes_nothing(tmp_path, change):
    path = tmp_path / "epoch-0001.npz"
    save_variables(built(one_weight() if change == "another network" else tiny_autoencoder()), path)
    if change == "a byte":
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    if change == "other dtypes":
        np.savez(path, float16=np.zeros(3, np.float16))
    model = built(tiny_autoencoder(3))
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"epoch-0001\.npz is missing, damaged or of another network \(\w+\), but"):
        restore_variables(model, path)
    for weight, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


@both_damages
def test_a_damaged_checkpoint_means_the_one_before(whole, kept, damage):
    damage(kept / "epoch-0004.npz")
    result, said = train(kept, two_phases())
    assert_same_training(result, whole.result)
    assert said[0].startswith("going on after epoch 3 of 4")
    assert len(said) == 2
    assert files_in(kept) == WHOLE


def test_without_a_readable_checkpoint_training_starts_afresh(whole, kept):
    for path in kept.glob("*.npz"):
        path.write_bytes(b"not a model")
    result, said = train(kept, two_phases(), seed=11)
    assert_same_training(result, whole.result)
    assert "can be read; training starts afresh" in said[0]
    assert len(said) == 1 + EPOCHS
    assert files_in(kept) == WHOLE


class Targets(keras.utils.PyDataset):
    """One target per epoch. With squared errors and a rate of 1/2, one step moves the weight to the target."""

    def __init__(self, targets):
        super().__init__()
        self.targets, self.epoch = targets, 0

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


def follow(targets, folder, digest="recipe", validation=0.0, log=None, **kwargs):
    """Train a network of one weight on `targets`. Return the network, its history and the logged lines.

    The validation loss is the squared weight if `validation` is 0.
    """
    phase = Phase("only", len(targets), Targets(targets), validation=Targets([validation]))
    said = []
    model, history = fit(one_weight(), [phase], folder, digest=digest, log=log or said.append, **kwargs)
    return pytest.approx(model.get_weights()[0].item()), history, said


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
    steps, validation = Targets([1.0, 1.0, 1.0]), Targets([0.0])
    phases = [Phase(name, epochs, steps, validation=validation) for name, epochs in (("one", 2), ("two", 1))]
    _, history = fit(model, phases, tmp_path, digest="recipe", log=str)
    assert sorted(traced) == [False, True]  # validation, training
    assert {*metrics, "loss"} < set(history.columns)


def test_without_patience_the_last_weights_are_kept(tmp_path):
    weight, history, _ = follow([3, 1, 2, 4], tmp_path)
    assert weight == 4
    np.testing.assert_allclose(history["val_loss"], [9, 1, 4, 16])
    assert files_in(tmp_path) == WHOLE


def test_patience_stops_and_restores_the_best_weights(tmp_path):
    weight, history, said = follow([3, 1, 2, 4, 0, 0], tmp_path, patience=2)
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert weight == 1
    assert said[-2:] == [
        "stopped early: 2 epochs without a lower val_loss",
        "weights of epoch 2, the best, are restored",
    ]
    assert files_in(tmp_path) == ["epoch-0002.npz", *WHOLE]
    weight, same, said = follow([3, 1, 2, 4, 0, 0], tmp_path, patience=2)
    pd.testing.assert_frame_equal(same, history)
    assert weight == 1
    assert [line.split()[0] for line in said] == ["going", "weights"]


@pytest.mark.parametrize(
    ("targets", "patience", "epochs", "best"),
    [([3, 4, 2, 5, 1, 6, 7], 2, 7, 5), ([3, 1, 2], 5, 3, 2), ([1, -1, 1, 0], 2, 3, 1)],
    ids=["a lower loss renews patience", "the best is restored at the end too", "the first of equals is the best"],
)
def test_the_best_weights_are_restored(tmp_path, targets, patience, epochs, best):
    weight, history, _ = follow(targets, tmp_path, patience=patience)
    assert list(history["epoch"]) == list(range(1, epochs + 1))
    assert best_epoch(history, "val_loss") == best
    assert weight == 1
    kept = sorted({best, epochs - 1, epochs})
    assert files_in(tmp_path) == [*(f"epoch-{epoch:04d}.npz" for epoch in kept), "history.json"]


def test_patience_is_remembered_over_an_interruption(tmp_path):
    targets = [3, 1, 2, 4, 0, 0]
    with pytest.raises(KeyboardInterrupt):
        follow(targets, tmp_path, patience=2, log=interrupt_after(3))
    weight, history, _ = follow(targets, tmp_path, patience=2)
    assert list(history["epoch"]) == [1, 2, 3, 4]
    assert weight == 1
    assert files_in(tmp_path) == ["epoch-0002.npz", *WHOLE]


def test_the_earlier_best_is_there_when_the_latest_is_damaged(tmp_path):
    """Some devices do not reproduce bits, so the repeated epoch may not be the best again."""
    follow([1, 3, 4, 0.5], tmp_path, patience=5)
    (tmp_path / "epoch-0004.npz").write_bytes(b"damaged")
    weight, history, _ = follow([1, 3, 4, 5], tmp_path, patience=5)
    np.testing.assert_allclose(history["val_loss"], [1, 9, 16, 25])
    assert weight == 1


@both_damages
def test_a_lost_best_checkpoint_gives_one_clear_sentence(tmp_path, damage):
    follow([1, 2, 3], tmp_path, patience=5)
    damage(tmp_path / "epoch-0001.npz")
    message = r"epoch-0001\.npz, the checkpoint of the best .* missing or damaged, but it is needed: delete"
    with pytest.raises(ValueError, match=message):
        follow([1, 2, 3], tmp_path, patience=5)


def test_other_settings_start_afresh(tmp_path):
    follow([1, 2, 3, 4, 5], tmp_path)
    weight, history, said = follow([7, 8], tmp_path, digest="another")
    assert said[0] == f"the checkpoints in {tmp_path} belong to a training with other settings; training starts afresh"
    assert list(history["epoch"]) == [1, 2]
    assert weight == 8
    assert files_in(tmp_path) == ["epoch-0001.npz", "epoch-0002.npz", "history.json"]


def test_checkpoints_of_an_earlier_format_are_removed(tmp_path):
    follow([1], tmp_path, digest="earlier")
    (tmp_path / "epoch-0001.npz").rename(tmp_path / "epoch-0001.keras")
    follow([7, 8], tmp_path)
    assert files_in(tmp_path) == ["epoch-0001.npz", "epoch-0002.npz", "history.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[]", b"null", b'{"digest": "recipe"}', bytes(500), b"\xff\xfe"]
)
def test_a_damaged_history_starts_afresh(tmp_path, content):
    follow([1, 2, 3], tmp_path)
    (tmp_path / "history.json").write_bytes(content)
    _, history, said = follow([4, 5], tmp_path)
    assert said[0].endswith("training starts afresh")
    assert list(history["val_loss"]) == pytest.approx([16, 25])
    assert files_in(tmp_path) == ["epoch-0001.npz", "epoch-0002.npz", "history.json"]


def fail_instead(monkeypatch, where, name, error, when):
    """Have a function raise an error in place of each call for whose first argument `when` holds."""
    real = getattr(where, name)

    def called(first, *args, **kwargs):
        if when(first):
            raise error
        return real(first, *args, **kwargs)

    monkeypatch.setattr(where, name, called)


def test_a_kill_between_checkpoint_and_history_loses_an_epoch_at_most(tmp_path, monkeypatch):
    fail_instead(monkeypatch, training, "write_json", OSError(28, "No space left on device"), Path.exists)
    with pytest.raises(OSError, match="No space left"):
        follow([1, 2, 3], tmp_path)
    monkeypatch.undo()
    weight, history, said = follow([1, 2, 3], tmp_path)
    assert said[0].startswith("going on after epoch 1 of 3")
    assert list(history["epoch"]) == [1, 2, 3]
    assert weight == 3
    assert files_in(tmp_path) == ["epoch-0002.npz", "epoch-0003.npz", "history.json"]


def test_a_kill_before_the_clearing_up_leaves_no_old_checkpoint(tmp_path, monkeypatch):
    """After the last epoch, too, when no later one clears up."""
    fail_instead(monkeypatch, Path, "unlink", KeyboardInterrupt, lambda path: path.name == "epoch-0002.npz")
    with pytest.raises(KeyboardInterrupt):
        follow([1, 2, 3, 4], tmp_path)
    monkeypatch.undo()
    assert files_in(tmp_path) == ["epoch-0002.npz", *WHOLE]
    assert follow([1, 2, 3, 4], tmp_path)[0] == 4
    assert files_in(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("targets", "validation", "what"),
    [([1, 2, math.nan, 4], 0.0, "loss of epoch 3"), ([1, 2], math.nan, "val_loss of epoch 1")],
)
def test_a_loss_that_is_no_number_gives_one_clear_sentence(tmp_path, targets, validation, what):
    with pytest.raises(ValueError, match=f"^{what} is nan, but a finite number is needed: lower learning_rate"):
        follow(targets, tmp_path, validation=validation)
    if validation == 0:  # the checkpoints of earlier epochs are intact
        assert files_in(tmp_path) == ["epoch-0001.npz", "epoch-0002.npz", "history.json"]
        restore_variables(built(one_weight()), tmp_path / "epoch-0002.npz")
    else:
        assert files_in(tmp_path) == []


def test_phases_without_epochs_are_left_out(tmp_path):
    data = Targets([1, 2])
    phases = [Phase(name, epochs, data, validation=data) for name, epochs in (("raw", 0), ("noisy", 2), ("after", 0))]
    _, history = fit(one_weight(), phases, tmp_path, digest="recipe", log=str)
    assert list(history["phase"]) == ["noisy", "noisy"]


def test_nothing_to_train_and_patience_below_one_are_refused(tmp_path):
    for phases in ([], [Phase("raw", 0, Targets([1]), validation=Targets([1]))]):
        with pytest.raises(ValueError, match="the sum of all phases' epochs is 0, but 1 or more"):
            fit(one_weight(), phases, tmp_path, digest="recipe")
    for patience in (0, -1):
        with pytest.raises(ValueError, match=f"patience is {patience}, but 1 epoch or more"):
            follow([1], tmp_path, patience=patience)

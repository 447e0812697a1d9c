"""The rows of the table: one function per row, which measures two sides and yields the results."""

import contextlib
import dataclasses
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import apply_alone
import bare
import delivery
import fit_alone
import h5py
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import paper_recipe
import yaml
from delivery import Clock, Sink, delivered
from jupyter_client.manager import start_new_kernel
from measuring import SEED, Cost, Result, compare, in_turn, now, say, seconds, since, total
from sample import CHUNKS, class_labels, shrink

from galaxynb.apply.predict import predict
from galaxynb.apply.run import apply_images
from galaxynb.compute import allocator_settings, choose_execution, cores
from galaxynb.data.cache import prepare_cache
from galaxynb.data.galaxy10 import IMAGES
from galaxynb.data.splits import paper_split
from galaxynb.images import to_float
from galaxynb.networks.autoencoder import build_autoencoder
from galaxynb.networks.batches import ClassifierBatches, DenoisingBatches
from galaxynb.networks.calibration import Calibration
from galaxynb.networks.checkpoints import save_variables
from galaxynb.networks.classifier import build_classifier
from galaxynb.networks.models import compile_model
from galaxynb.networks.training import Phase, fit
from galaxynb.noise import NoiseModel
from galaxynb.results.evaluation import accuracy_interval, class_report, confusion_table, estimate_recovery
from galaxynb.results.quality import image_quality
from galaxynb.stages import SECTIONS, STAGES

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sizes:
    """Number and size of the measurements of each row. The defaults are those of a full run."""

    rounds: int = 3
    small_networks: bool = False  # instead of DenseNet121, whose tracing takes a minute
    rendered: int = 256  # distinct galaxies, each used in eight orientations
    pairs: int = 1024
    short_rounds: int = 5  # for rows that take seconds
    epoch_rounds: int = 5  # goals of a few per cent are smaller than the scatter of three rounds
    autoencoder: tuple = ((64, 8, 240, 60), (128, 32, 40, 10))  # side, batch, steps and validation steps per epoch
    classifier: tuple = (64, 16, 120, 8)  # same order; validation uses batches of 64
    alone: tuple = (64, 16, 30)  # side, batch, steps per epoch
    alone_rounds: int = 2
    file_images: int = 2000
    file_side: int = 256
    large_file_images: int = 17736
    prepared_side: int = 128
    test_images: int = 17736  # a fifth of them is the test set
    test_side: int = 64
    evaluation_rounds: int = 2
    first_step: tuple = (64, 16)  # side, batch
    growth: tuple = (1000, 2000, 4000, 8000, 16000)
    growth_side: int = 128
    applied: tuple = (2000, 20000)  # images
    applied_side: int = 64
    study_profile: str = "quick"
    sweep_rounds: int = 2
    # Parameters that make a point of the sweep small.
    sweep_point: tuple = (
        ("data.n_images", 1500),
        ("classifier.epochs", 2),
        ("autoencoder.raw_epochs", 1),
        ("autoencoder.noisy_epochs", 7),
    )


QUICK = Sizes(
    rounds=1,
    small_networks=True,
    rendered=16,
    pairs=32,
    short_rounds=1,
    epoch_rounds=1,
    autoencoder=((32, 8, 4, 1),),
    classifier=(32, 8, 4, 1),
    alone=(32, 8, 4),
    alone_rounds=1,
    file_images=40,
    file_side=64,
    large_file_images=80,
    prepared_side=32,
    test_images=200,
    test_side=32,
    evaluation_rounds=1,
    first_step=(32, 8),
    growth=(40, 80),
    growth_side=64,
    applied=(40, 80),
    study_profile="smoke",
)


# --- noisy pairs


def pairs(sample):
    """Measure how many noisy training pairs per second `fit` receives."""
    sizes, batch = sample.sizes, 32
    files, cutouts = sample.folder / "jpeg", sample.folder / "cutouts.npy"
    originals = sample.images(sizes.pairs, 256)
    paper_recipe.write_files(originals, files)
    np.save(cutouts, shrink(originals, delivery.SIDE))
    del originals

    def rate(side, path):
        command = [sys.executable, delivery.__file__, side, str(path), str(batch)]
        return sizes.pairs / float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    rounds = in_turn("pairs", sizes.short_rounds, lambda: rate("ours", cutouts), lambda: rate("paper", files))
    yield compare(
        "pairs",
        "noisy pairs of 128 px delivered to fit",
        "JPEG, ImageDataGenerator, one blur per star",
        "pairs/s",
        rounds,
        ">= 20",
        pairs=sizes.pairs,
        batch=batch,
    )


# --- epochs


class _Still(keras.utils.PyDataset):
    """Repeat one batch, kept in memory."""

    def __init__(self, batch, steps):
        super().__init__()
        self.one, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, number):
        return self.one


def epochs(row, what, rounds, model, train, validation, goal):
    """Compare an epoch of `fit`, with validation and checkpoint, to `fit` on one batch in memory."""

    def ours():
        marks = {}

        def begin(epoch, set_epoch=train.set_epoch):
            marks["begin"] = now()
            set_epoch(epoch)

        with tempfile.TemporaryDirectory() as folder, mock.patch.object(train, "set_epoch", begin):
            phase = Phase("measured", 1, train, validation=validation)
            fit(model, [phase], folder, digest="measured", log=lambda _: marks.update(cost=since(marks["begin"])))
        return marks["cost"]

    still, still_validation = (_Still(part[0], len(part)) for part in (train, validation))

    def theirs():
        clock = Clock()
        model.fit(still, validation_data=still_validation, shuffle=False, verbose=0, callbacks=[clock])
        return clock.epochs[0]

    say(f"{row}: compiling the step, {what}")
    few = _Still(train[0], 2)
    model.fit(few, validation_data=few, verbose=0, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        save = seconds(save_variables, model, Path(folder) / "model.npz")
    found = in_turn(row, rounds, ours, theirs)
    return compare(
        row,
        f"{what}, {len(train)} + {len(validation)} steps",
        "fit on one batch in memory, same allocator settings",
        "s",
        found,
        goal,
        batch_s=seconds(lambda: train[1]),
        save_s=save,
    )


def autoencoder_epoch(sample):
    """Measure one training epoch of the autoencoder's noisy phase."""
    noise = NoiseModel()
    for side, batch, steps, validation_steps in sample.sizes.autoencoder:
        cutouts = sample.images(batch * (steps + validation_steps), side)
        rows = np.arange(len(cutouts))
        train = DenoisingBatches(cutouts, rows[: batch * steps], batch_size=batch, seed=SEED, noise=noise)
        validation = DenoisingBatches(
            cutouts, rows[batch * steps :], batch_size=batch, seed=SEED, noise=noise, training=False
        )
        network = build_autoencoder(side, seed=SEED, precision=choose_execution().precision)
        model = compile_model(network, "mean_absolute_error")
        what = f"{side} px, batches of {batch}"
        yield epochs("autoencoder-epoch", what, sample.sizes.epoch_rounds, model, train, validation, "<= 1.05")


def classifier_epoch(sample):
    """Measure one training epoch of the classifier."""
    side, batch, steps, validation_steps = sample.sizes.classifier
    cutouts = sample.images(batch * steps + 64 * validation_steps, side)
    labels, rows = np.arange(len(cutouts)) % 10, np.arange(len(cutouts))
    train = ClassifierBatches(cutouts, labels, rows[: batch * steps], batch_size=batch, seed=SEED)
    validation = ClassifierBatches(cutouts, labels, rows[batch * steps :], batch_size=64, seed=SEED, training=False)
    network = _classifier(sample.sizes, side, choose_execution().precision)
    model = compile_model(network, "sparse_categorical_crossentropy", metrics=["accuracy"])
    what = f"{side} px, batches of {batch}"
    yield epochs("classifier-epoch", what, sample.sizes.epoch_rounds, model, train, validation, "<= 1.03")


def _classifier(sizes, side, precision="float32"):
    if not sizes.small_networks:
        return build_classifier(side, bn_momentum=0.9, seed=SEED, precision=precision)
    return bare.small_classifier(side)


# --- page faults


def page_faults(sample):
    """Measure an epoch of the classifier with the allocator settings of the study and with glibc's defaults."""
    sizes = sample.sizes
    command = [sys.executable, fit_alone.__file__, *map(str, sizes.alone), *(["--small"] * sizes.small_networks)]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    kept = plain | allocator_settings(plain)
    found = []

    def epoch(environment):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append(json.loads(done.stdout.splitlines()[-1]) | {"settings": environment is not plain})
        say(f"page-faults: {found[-1]}")
        return Cost(*(found[-1][name] for name in ("wall", "user", "system")))

    # On CPUs without AVX512, TensorFlow does not use oneDNN. There, glibc's defaults cause ten times the page faults.
    without = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    usual = [epoch(kept) for _ in range(sizes.alone_rounds)]
    kept, plain = kept | without, plain | without
    rounds = in_turn("page-faults", sizes.alone_rounds, lambda: epoch(plain), lambda: epoch(kept))
    what = "an epoch of {0} px, {2} steps of {1}".format(*sizes.alone)
    for costs, where in ((usual, "as this machine trains"), ([after for _, after in rounds], "without oneDNN")):
        shares = [(cost.system, cost.user) for cost in costs]
        text = f"{what}, system time, {where}"
        yield compare("page-faults", text, "user time", "s", shares, "<= 0.1")
    text = f"{what}, glibc's defaults, without oneDNN"
    yield compare("page-faults", text, "allocator settings", "s", rounds, ">= 2.2", runs=found)
    spent = [tuple(cost.user + cost.system for cost in pair) for pair in rounds]
    yield compare("page-faults", f"{text}, CPU time", "allocator settings", "s", spent, ">= 1.9")
    peaks = [[one["peak_mb"] for one in found[len(usual) :] if one["settings"] is chosen] for chosen in (True, False)]
    yield compare(
        "page-faults", "peak memory, allocator settings", "glibc's defaults", "MB", [*zip(*peaks, strict=True)]
    )


# --- preparing

_PREPARE_ALONE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from galaxynb.data.cache import prepare_cache
prepare_cache(sys.argv[1], sys.argv[2], image_size=int(sys.argv[3]), progress=False)
from measuring import peak_memory
print(peak_memory())
"""


def read_only(path):
    """Read all images of a file in order, in whole chunks, and do nothing with them."""
    with h5py.File(path) as file:
        images = file[IMAGES]
        for start in range(0, len(images), images.chunks[0]):
            images[start : start + images.chunks[0]]


def prepare(sample):
    """Measure the time and the memory for shrinking a file in the published layout."""
    sizes = sample.sizes
    path = sample.file("original", sizes.file_images, sizes.file_side)
    with h5py.File(path) as file:
        stored = file[IMAGES].id.get_storage_size() / file[IMAGES].nbytes
    out = sample.folder / "cache"
    rounds = in_turn(
        "prepare",
        sizes.short_rounds,
        lambda: seconds(prepare_cache, path, out, image_size=sizes.prepared_side, progress=False),
        lambda: seconds(read_only, path),
    )
    yield compare(
        "prepare",
        f"{sizes.file_images:,} gzipped images, {sizes.file_side} to {sizes.prepared_side} px",
        "reading the file in order",
        "s",
        rounds,
        "<= 1.25",
        stored_share=stored,
    )
    say(f"prepare: measuring peak memory for {sizes.file_images:,} and {sizes.large_file_images:,} images")
    few = _peak("-c", _PREPARE_ALONE, path, out, sizes.prepared_side)
    path.unlink()
    large = sample.file("large", sizes.large_file_images, sizes.file_side)
    many = _peak("-c", _PREPARE_ALONE, large, out, sizes.prepared_side)
    large.unlink()
    yield compare(
        "prepare",
        f"peak memory, {sizes.large_file_images:,} images",
        f"peak memory, {sizes.file_images:,} images",
        "MB",
        [(many, few)],
        "<= 1.1",
    )


def _peak(*command):
    """Return what a Python program prints at its end: its peak memory in MB."""
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.splitlines()[-1])


# --- evaluation


def code_cells(notebook):
    """Return the sources of a notebook's code cells, and the index of the parameters cell among them."""
    cells = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    (place,) = (n for n, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", []))
    return ["".join(cell["source"]) for cell in cells], place


def run_folder(sample, number, side):
    """Make what notebook 05 reads, except for the networks: prepared images and a noise of known strength."""
    run = sample.folder / "run"
    path = sample.file("run", number, side, truth=True)
    prepare_cache(path, run / "data" / "cache", image_size=side, progress=False)
    path.unlink()
    evaluations = pd.DataFrame({"strength": [0.0, 1.0], "accuracy": [0.74, 0.33]})
    Calibration(NoiseModel(), True, 0.74, 0.33, 0.33, True, evaluations).write(run / "calibrated_noise.json")
    return run


def evaluate(sample):
    """Measure notebook 05 after it has loaded the models, and its predictions alone."""
    sizes = sample.sizes
    run = run_folder(sample, sizes.test_images, sizes.test_side)
    networks = {"03": _classifier(sizes, sizes.test_side), "04": build_autoencoder(sizes.test_side, seed=SEED)}
    few = sample.images(64, sizes.test_side) / np.float32(255)
    say("evaluation: compiling the predictions")
    for network in networks.values():
        network.predict(few, batch_size=64, verbose=0)
    cells, parameters = code_cells("05_evaluation.ipynb")
    found, shares = [], {}
    for number in range(sizes.evaluation_rounds):
        whole, predicting, shares = _evaluation(cells, parameters, run, networks)
        found.append((whole, predicting))
        say(f"evaluation: round {number + 1} of {sizes.evaluation_rounds}: {whole:.3g} s, predict {predicting:.3g} s")
    n_test = len(paper_split(class_labels(sizes.test_images)).test)
    yield compare(
        "evaluation",
        f"notebook 05, {n_test:,} test images of {sizes.test_side} px",
        "its predictions alone",
        "s",
        found,
        "<= 1.2",
        cells_s=shares,
    )


def _evaluation(cells, parameters, run, networks):
    """Run the cells. Return the seconds of all cells, of `predict`, and of each slow cell without `predict`."""
    predicting = 0.0
    predict = keras.Model.predict

    def timed(*arguments, **options):
        nonlocal predicting
        start = time.perf_counter()
        try:
            return predict(*arguments, **options)
        finally:
            predicting += time.perf_counter() - start

    def loaded(_, made_by):
        return next(network for number, network in networks.items() if number in made_by)

    names, whole, shares = {"__name__": "notebook"}, 0.0, {}
    given = {"run_dir": str(Path(run).resolve()), "profile": "bench", "seed": SEED}
    with (
        contextlib.chdir(ROOT / "notebooks"),
        mock.patch.object(keras.Model, "predict", timed),
        mock.patch("galaxynb.networks.models.load_model", loaded),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        for number, cell in enumerate(cells):
            before, start = predicting, time.perf_counter()
            exec(cell, names)
            taken = time.perf_counter() - start
            if number == parameters:
                names.update(given)
            elif number > parameters + 1:  # after the cell that loads the models
                whole += taken
                rest = taken - (predicting - before)
                if rest > 0.5:
                    shares[cell.strip().splitlines()[0]] = round(rest, 2)
    plt.close("all")
    return whole, predicting, shares


# --- start-up

_STOP = """
import keras, time
class FirstStepDone(Exception):
    pass
class _Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise FirstStepDone(time.time())  # the cell ends later, when its traceback has been written
def _fit(self, *arguments, callbacks=(), fit=keras.Model.fit, **options):
    return fit(self, *arguments, callbacks=[*callbacks, _Stop()], **options)
keras.Model.fit = _fit
"""

_SMALL = """
import bare, galaxynb.networks.classifier
galaxynb.networks.classifier.build_classifier = lambda side, **_: bare.small_classifier(side)
"""


def start_up(sample):
    """Measure the time from starting notebook 03's kernel to the end of the first training step."""
    sizes, (side, batch) = sample.sizes, sample.sizes.first_step
    run = run_folder(sample, 3000 if not sizes.small_networks else 100, side)
    values = {"run_dir": str(run), "batch_size": batch}
    rounds = in_turn(
        "start-up",
        sizes.rounds,
        lambda: _notebook_to_first_step("03_classifier.ipynb", values, sizes.small_networks),
        lambda: _script_to_first_step(side, batch, sizes.small_networks),
    )
    yield compare(
        "start-up",
        "notebook 03, kernel start to first step",
        "a script: import, build, compile, one step",
        "s",
        rounds,
        "<= 1.1",
        side=side,
        batch=batch,
    )


def _notebook_to_first_step(notebook, values, small):
    """Start a kernel and run a notebook until `fit` has done one step; return the seconds."""
    cells, parameters = code_cells(notebook)
    assign = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    if small:
        assign += f"\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r}){_SMALL}"
    cells = [*cells[: parameters + 1], assign + _STOP, *cells[parameters + 1 :]]
    start = time.time()  # a clock that two processes share on any system
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT / "notebooks"))
    try:
        for cell in cells:
            content = client.execute(cell, reply=True)["content"]
            if content["status"] == "error":
                if content["ename"] == "FirstStepDone":
                    return float(content["evalue"]) - start
                raise RuntimeError(f"{notebook} failed before its first step: {content['ename']}: {content['evalue']}")
        raise RuntimeError(f"{notebook} ended without a training step: give it data that it has not been trained on")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _script_to_first_step(side, batch, small):
    """Run `bare.py first-step`; return the seconds until it prints that the step is done."""
    command = [sys.executable, bare.__file__, "first-step", str(side), str(batch), *(["--small"] * small)]
    start = time.time()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as script:
        for line in script.stdout:
            if line.startswith("first step done "):
                return float(line.split()[-1]) - start
    raise RuntimeError(f"bare.py first-step ended with exit status {script.returncode} before its first step")


# --- growth


def growth(sample):
    """Measure how the time per image changes from few images to many, for data, noisy pairs and metrics."""
    sizes = sample.sizes
    counts = sizes.growth
    sink = Sink()
    sink.compile()
    costs = {number: [] for number in counts}
    parts = {number: [] for number in counts}
    files = {
        # Chunks of 555 images would reach far beyond the last image of a small file, so smaller chunks are used.
        number: sample.file(f"growth-{number}", number, sizes.growth_side, chunks=(counts[0] // 2, *CHUNKS[1:]))
        for number in counts
    }
    _grown(files[counts[0]], sample.folder / "cache", sizes.growth_side // 2, sink)  # warm-up: traces the empty step
    for turn in range(sizes.rounds):
        # Small files are measured more often: their short times are more sensitive to other work on the machine.
        for number in (each for each in counts for _ in range(max(1, counts[-1] // 4 // each))):
            taken = _grown(files[number], sample.folder / "cache", sizes.growth_side // 2, sink)
            costs[number].append(sum(taken.values()) / number)
            parts[number].append(taken)
        per_image = {number: f"{1e3 * statistics.median(costs[number]):.2f}" for number in counts}
        say(f"growth: round {turn + 1} of {sizes.rounds}: ms per image {per_image}")
    cost = {number: 1e3 * statistics.median(values) for number, values in costs.items()}
    detail = {
        str(number): {part: 1e3 * statistics.median(taken[part] for taken in parts[number]) / number for part in taken}
        for number, (taken, *_) in parts.items()
    }
    what = f"prepare, an epoch of noisy pairs, metrics, {sizes.growth_side} to {sizes.growth_side // 2} px"
    first, last = counts[0], counts[-1]
    ratios = [1e3 * one / cost[first] for one in costs[last]]
    yield Result(
        "growth",
        f"{what}: time per image, {last:,} images",
        f"time per image, {first:,} images",
        "ms",
        cost[last],
        cost[first],
        cost[last] / cost[first],
        min(ratios),
        max(ratios),
        len(ratios),
        "<= 1.1",
        {"ms_an_image": detail},
    )
    # If time were proportional to the number of images, every file would have the mean time per image.
    mean = statistics.mean(cost.values())
    worst = max(counts, key=lambda number: abs(cost[number] / mean - 1))
    yield Result(
        "growth",
        f"time per image furthest from the mean: {worst:,} images",
        f"mean over {len(counts)} sizes",
        "ms",
        cost[worst],
        mean,
        cost[worst] / mean,
        min(cost.values()) / mean,
        max(cost.values()) / mean,
        len(ratios),
        "within 0.1",
    )


def _grown(path, out, side, sink):
    """Return the seconds that each part takes for one file."""
    taken = {}
    start = time.perf_counter()
    cache = prepare_cache(path, out, image_size=side, progress=False)
    split = paper_split(cache.labels)
    taken["prepare"] = time.perf_counter() - start
    noise = NoiseModel()
    start = time.perf_counter()
    delivered(DenoisingBatches(cache.images, split.train, batch_size=32, seed=SEED, noise=noise), sink)
    taken["pairs"] = time.perf_counter() - start
    # Predictions are drawn at random: the networks' time would be the same for any package code.
    labels, rng = cache.labels[split.test], np.random.default_rng(SEED)
    clean = to_float(cache.images[split.test])
    noisy = noise.apply(cache.images[split.test], SEED, split.test)
    predicted = [np.where(rng.random(len(labels)) < share, labels, (labels + 1) % 10) for share in (0.7, 0.3, 0.6)]
    start = time.perf_counter()
    for one in predicted:
        class_report(labels, one)
        confusion_table(labels, one)
        accuracy_interval(one == labels)
    estimate_recovery(*(one == labels for one in predicted), seed=SEED)
    image_quality(clean, noisy)
    taken["metrics"] = time.perf_counter() - start
    return taken


# --- apply


def apply(sample):
    """Measure `apply_images` beside `predict` on the same images in memory, and its memory with more images."""
    sizes = sample.sizes
    side, (few, many) = sizes.applied_side, sizes.applied
    images = sample.images(few, side)
    networks = apply_alone.untrained_networks(side, sizes.small_networks)
    predict(images[:64], networks)  # traces the networks
    files = {"an HDF5 file": sample.file("applied", few, side), "JPEG files": sample.folder / "pictures"}
    paper_recipe.write_files(images, files["JPEG files"])

    def applied(path):
        with tempfile.TemporaryDirectory(dir=sample.folder) as out:
            return seconds(apply_images, path, out, networks, progress=False)

    for name, path in files.items():
        rounds = in_turn("apply", sizes.rounds, partial(applied, path), lambda: seconds(predict, images, networks))
        what = f"{few:,} images of {side} px in {name}, with results and page"
        rate = few / statistics.median(ours for ours, _ in rounds)
        yield compare("apply", what, "predict on arrays in memory", "s", rounds, "<= 1.15", images_a_second=rate)
    peaks = []
    for number in (many, few):
        say(f"apply: measuring peak memory for {number:,} images")
        path, out = sample.file(f"applied-{number}", number, side), sample.folder / f"applied-{number}"
        small = ["--small"] * sizes.small_networks
        peaks.append(_peak(apply_alone.__file__, path, out, side, *small))
    yield compare(
        "apply", f"peak memory, {many:,} images", f"peak memory, {few:,} images", "MB", [tuple(peaks)], "<= 1.1"
    )


# --- the study


def study(sample):
    """Compare the five notebooks, run by Snakemake, with `bare.py` for each stage."""
    profile = sample.sizes.study_profile
    runs, plain = sample.folder / "runs", sample.folder / "bare"
    run = runs / f"{profile}-standin"
    stages = dict(zip(SECTIONS, STAGES, strict=True))
    ours, theirs = {}, {}
    for stage, notebook in stages.items():
        say(f"study: {notebook}")
        ours[stage] = seconds(_snakemake, runs, profile, run / "marks" / notebook)
        if stage in bare.STAGES:
            say(f"study: bare {stage}")
            theirs[stage] = seconds(_bare, stage, profile, run, plain)
    yield from beside_bare(profile, ours, theirs)


def beside_bare(profile, ours, theirs):
    """Make the results of the study: first the whole, then each stage."""
    whole = total(ours.values())
    what, against = f"{profile}: five notebooks by Snakemake", "bare.py, three stages, same allocator settings"
    yield compare("study", what, against, "s", [(whole, total(theirs.values()))], "<= 1.1")
    yield compare("study", f"{what}, system time", "user time", "s", [(whole.system, whole.user)], "<= 0.15")
    for stage, taken in ours.items():
        if stage in theirs:
            yield compare("study", f"{profile}: {stage}", f"bare.py {stage}", "s", [(taken, theirs[stage])])
        else:
            lone = Result("study", f"{profile}: {stage}", "no counterpart", "s", taken, None, None, None, None, 1)
            yield dataclasses.replace(lone, cpu=((taken.user, taken.system),))


def _snakemake(runs, profile, target):
    settings = [f"profile={profile}", "source=standin", f"runs={runs}"]
    _workflow("--configfile", f"config/{profile}.yaml", "--config", "kernel=python3", *settings, "--", str(target))


def _workflow(*arguments):
    command = [sys.executable, "-I", "workflow/launch.py", "snakemake", "--snakefile", "workflow/Snakefile"]
    _quietly([*command, "--cores", "all", "--quiet", "all", *arguments])


def _bare(stage, profile, run, out):
    command = [sys.executable, bare.__file__, stage, f"config/{profile}.yaml", str(run / "data" / "cache"), str(out)]
    _quietly(command)


def _quietly(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[1:4]} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


# --- sweeps


def sweep(sample):
    """Compare two sweep points that run at the same time on one core each, with two in sequence on all cores."""
    sizes, seeds = sample.sizes, [1, 2]
    path = sample.folder / "throughput.yaml"
    axes = {"seed": seeds} | {name: [value] for name, value in sizes.sweep_point}
    path.write_text(yaml.safe_dump({"profile": sizes.study_profile, "axes": axes}), encoding="utf-8")

    def rate(cpus):
        runs = tempfile.mkdtemp(dir=sample.folder)
        settings = ["kernel=python3", f"sweep={path}", f"runs={runs}", f"cpus={cpus}"]
        return 3600 * len(seeds) / seconds(_workflow, "--config", *settings)

    rounds = in_turn("sweep", sizes.sweep_rounds, lambda: rate(1), lambda: rate(cores()))
    yield compare(
        "sweep", "two seeds at the same time, one core each", "one after the other", "points/h", rounds, ">= 1"
    )


ROWS = {
    "pairs": pairs,
    "autoencoder-epoch": autoencoder_epoch,
    "classifier-epoch": classifier_epoch,
    "page-faults": page_faults,
    "prepare": prepare,
    "evaluation": evaluate,
    "start-up": start_up,
    "growth": growth,
    "apply": apply,
    "study": study,
    "sweep": sweep,
}
#: Rows that are measured only if named, because they take as long as all others together.
ON_REQUEST = ("study", "sweep")

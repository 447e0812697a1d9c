"""Trainings killed at random moments, and checkpoints cut short: the next run comes to the same bits.

Each of the two trainings of `resume_driver` runs once whole, then through two lives in which SIGKILL strikes ten
times in all. A moment is a step of the training and a while after it, both drawn from a seed. What is killed is
started again in the same folder, until the life ends with a run that nothing interrupts.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from paths import ROOT

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a fork is only known to be safe under Linux"
)

#: How many of the ten kills fall anywhere, while a checkpoint is written, and while one is read.
KILLS = {"anywhere": 5, "writing": 4, "reading": 1}
KILLS_OF_JAX = {"anywhere": 1, "writing": 1, "reading": 0}
HAS_JAX = importlib.util.find_spec("jax") is not None


@dataclass(frozen=True)
class Run:
    """What one process made of a training."""

    told: list  # its steps and what it said, with seconds
    result: dict | None  # history, weights and optimizer, if it came to the end
    files: list  # of the folder, after it
    damaged: list  # those of them that are not whole, asides apart
    finished: int  # epochs in the history, after it

    @property
    def said(self):
        return [what.removeprefix("said ") for what, _ in self.told if what.startswith("said ")]

    @property
    def begun(self):
        return [int(what.removeprefix("epoch ")) for what, _ in self.told if what.startswith("epoch ")]


@dataclass(frozen=True)
class Campaign:
    """All that the tests look at of one training."""

    whole: Run
    lives: list  # of lists of runs; the last of each is not killed
    cut: dict  # runs after a checkpoint was cut short, by what was cut: (run, epoch to go on from)


class Driver:
    """The process that trains in children of its own and kills them."""

    def __init__(self, training, place, **environment):
        self.place, self.errors = place, place / "errors.txt"
        (place / "tmp").mkdir(parents=True)
        driver = ROOT / "tests" / "support" / "resume_driver.py"
        environment = os.environ | {
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",  # it is the CPU that gives the same bits
            # So that no thread runs when the driver forks: pandas imports pyarrow, whose allocator would start one.
            "OPENBLAS_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
            "TMPDIR": str(place / "tmp"),  # Keras leaves an empty folder there when killed while it saves
            **environment,
        }
        with self.errors.open("w") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
            self.process = subprocess.Popen([sys.executable, driver, training], **pipes, env=environment, cwd=ROOT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def train(self, folder, kill=None):
        """Train or go on in `folder`, until `kill`: the steps of which the first one counts, and seconds after it."""
        result, history, arrays = self.place / "result.npz", folder / "history.json", None
        kill = kill and {"at": kill[0], "after": kill[1]}
        request = {"folder": str(folder), "result": str(result), "kill": kill}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline() or "{}")
        assert answer.get("status") == (-signal.SIGKILL if kill else 0), self.errors.read_text()[-3000:]
        if not kill:
            with np.load(result) as kept:
                arrays = dict(kept)
        files = sorted(path.name for path in folder.glob("*"))
        damaged = [name for name in files if not name.startswith(".") and not is_whole(folder / name)]
        finished = len(json.loads(history.read_text())["epochs"]) if history.exists() else 0
        return Run(answer["told"], arrays, files, damaged, finished)


def is_whole(path):
    if path.suffix == ".json":
        return path.read_text().endswith("}\n")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def draw_moments(told, seed, anywhere, writing, reading):
    """Draw when to kill, by what the whole run `told` and when; in the order of the training."""
    rng = np.random.default_rng(seed)
    steps = [(what, when) for what, when in told if not what.startswith("said ")]
    names, times = zip(*steps, strict=True)
    lasts = np.diff(times)
    writes = [step for step, name in enumerate(names) if name.startswith("save ")]
    drawn = [*rng.integers(len(lasts), size=anywhere), *rng.choice(writes, writing, replace=False)]
    # From that step on: the kill before may have struck so late that the step itself does not come again.
    moments = [(names[step:], rng.uniform(0, lasts[step])) for step in sorted(drawn)]
    for _ in range(reading):  # late, so that there is something to read
        late = rng.integers(2 * len(moments) // 3, len(moments))
        moments.insert(late, (["start"], rng.uniform(0.5, 1.5) * (times[names.index("epoch 1")] - times[0])))
    return moments


def campaign(training, place, seed, kills, lives, cut_short=None, **environment):
    """Run a training whole, kill it through its lives, and damage what is left of it."""
    with Driver(training, place, **environment) as driver:
        whole = driver.train(place / "whole")
        moments = draw_moments(whole.told, seed, **kills)
        runs = [
            [driver.train(place / f"life {life}", kill) for kill in [*moments[life::lives], None]]
            for life in range(lives)
        ]
        return Campaign(whole, runs, cut_short(driver, place, whole, seed) if cut_short else {})


def cut_autoencoder(driver, place, whole, seed):
    """Stop right between the phases; then cut the first phase's last checkpoint, or nothing."""
    between = place / "between"
    driver.train(between, kill=(["epoch 4"], None))
    anywhere, by_a_byte = lengths_of(between / "epoch-0003.keras", seed)
    return {
        "nothing, between the phases": (again(driver, between, 3), 3),
        "the last of a phase, anywhere": (again(driver, between, 3, anywhere), 2),
        "the last of a phase, by a byte": (again(driver, between, 3, by_a_byte), 2),
    }


def cut_classifier(driver, place, whole, seed):
    """Stop right after the best epoch, then cut its checkpoint; or the last one after an early stop."""
    best, last = best_of(whole), whole.finished
    driver.train(place / "best", kill=([f"epoch {best + 1}"], None))
    anywhere, by_a_byte = lengths_of(place / "best" / f"epoch-{best:04d}.keras", seed)
    return {
        "the best, anywhere": (again(driver, place / "best", best, anywhere), best - 1),
        "the last, after an early stop": (again(driver, place / "whole", last, by_a_byte), last - 1),
    }


def lengths_of(path, seed):
    size = path.stat().st_size
    return int(np.random.default_rng(seed).integers(1, size - 1)), size - 1


def again(driver, folder, epoch, length=None):
    """Go on in a copy of `folder` whose checkpoint of `epoch` is cut to `length` bytes."""
    copy = folder.with_name(f"{folder.name} {epoch} {length}")
    shutil.copytree(folder, copy)
    if length is not None:
        os.truncate(copy / f"epoch-{epoch:04d}.keras", length)
    return driver.train(copy)


CUTS = {"classifier": cut_classifier, "autoencoder": cut_autoencoder}


def rows_of(run):
    return json.loads(str(run.result["history"]))


def best_of(run):
    losses = [row["val_loss"] for row in rows_of(run)]
    return 1 + losses.index(min(losses))


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory):
    """Start all trainings at once, each in processes of its own, and return them as they come to their end."""
    with ThreadPoolExecutor() as pool:
        started = {}
        for seed, (training, cut_short) in enumerate(CUTS.items()):
            place = tmp_path_factory.mktemp(training)
            started[training] = pool.submit(campaign, training, place, seed, KILLS, 2, cut_short)
        if HAS_JAX:
            place = tmp_path_factory.mktemp("jax")
            environment = {
                "KERAS_BACKEND": "jax",
                "JAX_PLATFORMS": "cpu",
                # Compiled once, by the whole run, rather than in each child.
                "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
            started["jax"] = pool.submit(campaign, "classifier", place, 0, KILLS_OF_JAX, 1, **environment)
        yield lambda training: started[training].result()


def assert_same(run, whole):
    """The same history but for seconds, and the same bits in weights and optimizer."""
    assert rows_of(run) == rows_of(whole)
    assert run.result.keys() == whole.result.keys()
    for name, array in run.result.items():
        np.testing.assert_array_equal(array, whole.result[name], strict=True)
    assert run.files == whole.files


def assert_goes_on(life):
    """Each run goes on after the last epoch in the history before it, and does no other twice."""
    finished = 0
    for run in life:
        if run.said:
            assert run.said[0].startswith(f"going on after epoch {finished} of " if finished else "epoch   1/")
        assert run.begun == list(range(finished + 1, finished + 1 + len(run.begun)))
        assert run.finished - finished in {len(run.begun), max(len(run.begun) - 1, 0)}
        finished = run.finished


def test_the_classifier_stops_early_after_its_best_epoch(campaigns):
    """What the other tests rely on."""
    whole = campaigns("classifier").whole
    assert 1 < best_of(whole) == whole.finished - 3
    assert whole.finished < 12
    assert whole.said[-1] == f"weights of epoch {best_of(whole)}, the best, are restored"


@pytest.mark.parametrize("training", CUTS)
def test_a_training_killed_ten_times_comes_to_the_same_and_each_run_goes_on_from_the_last_epoch(campaigns, training):
    result = campaigns(training)
    assert sum(len(life) - 1 for life in result.lives) == 10
    for life in result.lives:
        assert_same(life[-1], result.whole)
        assert_goes_on(life)
        assert sum(len(run.begun) for run in life) < life[-1].finished + len(life)


def test_kills_while_a_checkpoint_is_written_leave_no_half_file_under_a_final_name_and_few_asides(campaigns):
    runs = [run for training in CUTS for life in campaigns(training).lives for run in life[:-1]]
    assert any(name.endswith(".partial.keras") for run in runs for name in run.files)
    for run in runs:
        assert run.damaged == []
        # Of the checkpoint that was being written, and of the history.
        assert sum(name.startswith(".") for name in run.files) <= 2


@pytest.mark.parametrize(("training", "cuts"), [("autoencoder", 3), ("classifier", 2)])
def test_a_checkpoint_cut_short_means_the_one_before(campaigns, training, cuts):
    result = campaigns(training)
    assert len(result.cut) == cuts
    for what, (run, epoch) in result.cut.items():
        assert run.said[0].startswith(f"going on after epoch {epoch} of "), what
        assert run.begun[0] == epoch + 1, what
        assert_same(run, result.whole)


@pytest.mark.skipif(not HAS_JAX, reason=f"jax is not installed: run {sys.executable} -m pip install jax")
def test_jax_comes_to_the_same_bits_too(campaigns):
    result = campaigns("jax")
    [life] = result.lives
    assert len(life) == 3
    assert_goes_on(life)
    assert_same(life[-1], result.whole)

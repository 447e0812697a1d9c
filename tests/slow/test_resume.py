"""Trainings killed at random moments, or with truncated checkpoints, give the same bits in the next run.

Each training of `resume_driver` runs once without interruption. Then it runs in two *lives*, with ten kills in total.
A kill is SIGKILL at a random time after a random step of the training; a seed decides both. After each kill, the
training starts again in the same folder. The last run of a life is not interrupted.
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

#: Number of kills at any step, while a checkpoint is written, and while one is read.
KILLS = {"anywhere": 5, "writing": 4, "reading": 1}
KILLS_OF_JAX = {"anywhere": 1, "writing": 1, "reading": 0}
HAS_JAX = importlib.util.find_spec("jax") is not None


@dataclass(frozen=True)
class Run:
    """One process that trained, and the files that it left."""

    events: list  # events (steps and log lines), each with its time in seconds
    result: dict | None  # history, weights and optimizer, if the training ended
    files: list  # names of the files in its folder afterwards
    damaged: list  # names of incomplete files, without temporary files
    finished: int  # number of epochs in the history afterwards

    @property
    def said(self):
        return [what.removeprefix("said ") for what, _ in self.events if what.startswith("said ")]

    @property
    def begun(self):
        return [int(what.removeprefix("epoch ")) for what, _ in self.events if what.startswith("epoch ")]


@dataclass(frozen=True)
class Campaign:
    """All runs of one training."""

    whole: Run
    lives: list  # lists of runs; the last run of each is not killed
    cut: dict  # by a description of the cut: the next run, and the epoch from which it must continue


class Driver:
    """The process that runs each training in a child process and kills it."""

    def __init__(self, training, place, **environment):
        self.place, self.errors = place, place / "errors.txt"
        environment = {
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",  # only the CPU reproduces bits
            # No thread may run when the driver forks, but the allocator of pyarrow, which pandas imports, starts one.
            "OPENBLAS_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
            **environment,
        }
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "support" / "resume_driver.py"), training],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | environment,
                cwd=ROOT,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def train(self, folder, kill=None):
        """Train or resume in `folder`. `kill` is None or (steps, seconds): kill that long after the first step."""
        result = self.place / "result.npz"
        kill = kill and {"at": kill[0], "after": kill[1]}
        request = {"folder": str(folder), "result": str(result), "kill": kill}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline() or "{}")
        assert answer.get("status") == (-signal.SIGKILL if kill else 0), self.errors.read_text()[-3000:]
        arrays = None
        if not kill:
            with np.load(result) as kept:
                arrays = dict(kept)
        history = folder / "history.json"
        files = sorted(path.name for path in folder.glob("*"))
        return Run(
            events=answer["events"],
            result=arrays,
            files=files,
            damaged=[name for name in files if not name.startswith(".") and not is_whole(folder / name)],
            finished=len(json.loads(history.read_text())["epochs"]) if history.exists() else 0,
        )


def is_whole(path):
    if path.suffix == ".json":
        return path.read_text().endswith("}\n")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def draw_moments(events, seed, anywhere, writing, reading):
    """Draw the times of the kills from the events of the uninterrupted run, in the order of the training."""
    rng = np.random.default_rng(seed)
    steps = [(what, when) for what, when in events if not what.startswith("said ")]
    names, times = zip(*steps, strict=True)
    lasts = np.diff(times)
    writes = [step for step, name in enumerate(names) if name.startswith("save ")]
    drawn = [*rng.integers(len(lasts), size=anywhere), *rng.choice(writes, writing, replace=False)]
    # Accept later steps too: the previous kill may have been so late that this step does not occur again.
    moments = [(names[step:], rng.uniform(0, lasts[step])) for step in sorted(drawn)]
    for _ in range(reading):  # late, when there is a checkpoint to read
        late = rng.integers(2 * len(moments) // 3, len(moments))
        moments.insert(late, (["start"], rng.uniform(0.5, 1.5) * (times[names.index("epoch 1")] - times[0])))
    return moments


def campaign(training, place, seed, kills, lives, cut_short=None, **environment):
    """Run a training without interruption, then with kills, then with damaged checkpoints."""
    with Driver(training, place, **environment) as driver:
        whole = driver.train(place / "whole")
        moments = draw_moments(whole.events, seed, **kills)
        runs = []
        for life in range(lives):
            folder = place / f"life {life}"
            runs.append([driver.train(folder, kill) for kill in [*moments[life::lives], None]])
        return Campaign(whole, runs, cut_short(driver, place, whole, seed) if cut_short else {})


def cut_autoencoder(driver, place, whole, seed):
    """Stop between the phases. Then truncate the last checkpoint of the first phase, or nothing."""
    driver.train(place / "between", kill=(["epoch 4"], None))
    lengths = lengths_of(place / "between" / "epoch-0003.npz", seed)
    return {
        "nothing, between the phases": (again(driver, place / "between", 3), 3),
        "the last of a phase, anywhere": (again(driver, place / "between", 3, lengths[0]), 2),
        "the last of a phase, by a byte": (again(driver, place / "between", 3, lengths[1]), 2),
    }


def cut_classifier(driver, place, whole, seed):
    """Stop after the best epoch and truncate its checkpoint, or truncate the last checkpoint after an early stop."""
    best, last = best_of(whole), whole.finished
    driver.train(place / "best", kill=([f"epoch {best + 1}"], None))
    lengths = lengths_of(place / "best" / f"epoch-{best:04d}.npz", seed)
    return {
        "the best, anywhere": (again(driver, place / "best", best, lengths[0]), best - 1),
        "the last, after an early stop": (again(driver, place / "whole", last, lengths[1]), last - 1),
    }


def lengths_of(path, seed):
    size = path.stat().st_size
    return int(np.random.default_rng(seed).integers(1, size - 1)), size - 1


def again(driver, folder, epoch, length=None):
    """Resume in a copy of `folder` whose checkpoint of `epoch` is truncated to `length` bytes."""
    copy = folder.with_name(f"{folder.name} {epoch} {length}")
    shutil.copytree(folder, copy)
    if length is not None:
        os.truncate(copy / f"epoch-{epoch:04d}.npz", length)
    return driver.train(copy)


CUTS = {"classifier": cut_classifier, "autoencoder": cut_autoencoder}


def rows_of(run):
    return json.loads(str(run.result["history"]))


def best_of(run):
    losses = [row["val_loss"] for row in rows_of(run)]
    return 1 + losses.index(min(losses))


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory):
    """Start all trainings at once, in separate processes. Yield a function that waits for one and returns it."""
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
                # Only the uninterrupted run compiles; the children reuse its cache.
                "JAX_COMPILATION_CACHE_DIR": str(place / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
            started["jax"] = pool.submit(campaign, "classifier", place, 0, KILLS_OF_JAX, 1, **environment)
        yield lambda training: started[training].result()


def assert_same(run, whole):
    """Compare the histories, except for seconds, and the bits of weights and optimizers."""
    assert rows_of(run) == rows_of(whole)
    assert run.result.keys() == whole.result.keys()
    for name, array in run.result.items():
        np.testing.assert_array_equal(array, whole.result[name], strict=True)
    assert run.files == whole.files


def assert_goes_on(life):
    """Check that each run resumes after the last epoch in the history, and repeats no other epoch."""
    finished = 0
    for run in life:
        if run.said:
            assert run.said[0].startswith(f"going on after epoch {finished} of " if finished else "epoch   1/")
        assert run.begun == list(range(finished + 1, finished + 1 + len(run.begun)))
        assert run.finished - finished in {len(run.begun), max(len(run.begun) - 1, 0)}
        finished = run.finished


both = pytest.mark.parametrize("training", ["classifier", "autoencoder"])


def test_the_classifier_stops_early_after_its_best_epoch(campaigns):
    """The other tests rely on this early stop."""
    whole = campaigns("classifier").whole
    assert 1 < best_of(whole) == whole.finished - 3
    assert whole.finished < 12
    assert whole.said[-1] == f"weights of epoch {best_of(whole)}, the best, are restored"


@both
def test_a_training_killed_ten_times_comes_to_the_same(campaigns, training):
    result = campaigns(training)
    assert sum(len(life) - 1 for life in result.lives) == 10
    for life in result.lives:
        assert_same(life[-1], result.whole)


@both
def test_each_run_goes_on_from_the_last_finished_epoch(campaigns, training):
    for life in campaigns(training).lives:
        assert_goes_on(life)
        assert sum(len(run.begun) for run in life) < life[-1].finished + len(life)


@both
def test_a_kill_leaves_no_half_file_under_a_final_name_and_few_temporary_files(campaigns, training):
    for life in campaigns(training).lives:
        for run in life[:-1]:
            assert run.damaged == []
            # One of the checkpoint and one of the history.
            assert sum(name.startswith(".") for name in run.files) <= 2


def test_some_kills_strike_while_a_checkpoint_is_written(campaigns):
    runs = [run for training in ("classifier", "autoencoder") for life in campaigns(training).lives for run in life]
    assert any(name.endswith(".partial.npz") for run in runs for name in run.files)


@pytest.mark.parametrize(
    ("training", "what"),
    [
        ("autoencoder", "nothing, between the phases"),
        ("autoencoder", "the last of a phase, anywhere"),
        ("autoencoder", "the last of a phase, by a byte"),
        ("classifier", "the best, anywhere"),
        ("classifier", "the last, after an early stop"),
    ],
)
def test_a_checkpoint_cut_short_means_the_one_before(campaigns, training, what):
    run, epoch = campaigns(training).cut[what]
    assert run.said[0].startswith(f"going on after epoch {epoch} of ")
    assert run.begun[0] == epoch + 1
    assert_same(run, campaigns(training).whole)


@pytest.mark.skipif(not HAS_JAX, reason=f"jax is not installed: run {sys.executable} -m pip install jax")
def test_jax_comes_to_the_same_bits_too(campaigns):
    result = campaigns("jax")
    [life] = result.lives
    assert len(life) == 3
    assert_goes_on(life)
    assert_same(life[-1], result.whole)

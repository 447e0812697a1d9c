"""The lines that a run prints come from logs, are few, and estimate the remaining time correctly."""

import io
import json
import logging
import os
from types import SimpleNamespace

import pytest
import snakemake_logger_plugin_galaxynb as plugin
import terminal
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from terminal import Board, Epoch, Job, Screen

LINE = "epoch   3/6 classify  accuracy 0.5901  loss 1.1625  val_accuracy 0.5333  val_loss 1.3813  34 s"
BAR = "stand-in:  45%|████▍     | 1360/3000 [00:10<01:12, 127.13image/s]"


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True

    def shown(self):
        """Return the text that a user sees: the lines that stay, and the status."""
        return [line.split("\x1b[2K")[-1] for line in self.getvalue().split("\n")]


@pytest.fixture
def clock():
    """Return a clock that stands until its `now` is set."""

    def read():
        return read.now

    read.now = 0.0
    return read


@pytest.fixture
def tty(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


@pytest.fixture
def pipe():
    return io.StringIO()


def board(stream, clock, **planned):
    made = Board(Screen(stream, columns=100), clock=clock)
    made.plan(planned)
    return made


def job(folder, stage, rule=None, local=True):
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    return Job(rule or stage.partition("_")[2], stage, str(folder), folder / "logs" / f"{stage}.txt", local=local)


def write(path, *lines):
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def lines_of(stream):
    """Return the lines after the first, which names the logs."""
    first, *rest = stream.getvalue().splitlines()
    assert "logs/" in first
    return rest


def test_an_epoch_is_read_from_its_line_and_from_no_other():
    measures = {"accuracy": 0.5901, "loss": 1.1625, "val_accuracy": 0.5333, "val_loss": 1.3813}
    assert terminal.parse_epoch(LINE) == Epoch(3, 6, "classify", measures, 34.0)
    assert terminal.parse_epoch("epoch  12/18 noisy  loss 2.5e-02  5 s") == Epoch(12, 18, "noisy", {"loss": 0.025}, 5.0)
    kept, going_on = "6 epochs run, of 6 at most; epoch 6 is kept", "going on after epoch 3 of 6, from x"
    assert {terminal.parse_epoch(line) for line in ("", "epoch", kept, going_on, BAR)} == {None}


def test_an_epoch_is_said_by_its_validation_images_where_there_are_any_and_a_bar_in_words():
    assert terminal.epoch_text(Epoch(1, 2, "raw", {"loss": 0.5, "val_loss": 0.02473}, 1.0)) == "validation loss 0.0247"
    assert terminal.epoch_text(Epoch(1, 2, "raw", {"loss": 0.5, "accuracy": 0.25}, 1.0)) == "loss 0.5, accuracy 25.0%"

    assert terminal.parse_bar(BAR) == "stand-in 45%, 1 min 12 s left"
    assert terminal.parse_bar("measuring:   0%|          | 0/300 [00:00<?, ?image/s]") == "measuring 0%"
    assert terminal.parse_bar("Executing Cell 5-------") is None


def test_times_are_said_in_words():
    words = ["0 s", "47 s", "1 min", "3 min 20 s", "25 min", "2 h 5 min", "1 h"]
    assert [terminal.duration(seconds) for seconds in (-3, 47.4, 59.6, 200, 1510, 7500, 3600)] == words


def test_time_left_is_what_the_kinds_took_over_how_many_run_at_once():
    # The epoch that compiles counts only while it is the only one.
    assert terminal.epochs_left([47.0], 5) == 235.0
    assert terminal.epochs_left([47.0, 24.0, 26.0], 3) == 75.0
    took = {"noise": [10.0, 20.0], "classifier": [100.0]}
    assert terminal.stages_left({"noise": 2, "classifier": 1}, took, [("noise", 5.0)], at_once=1) == (125.0, True)
    assert terminal.stages_left({"noise": 2, "classifier": 1}, took, [("noise", 99.0)], at_once=2) == (57.5, True)
    assert terminal.stages_left({"noise": 2, "evaluation": 4}, took, [], at_once=1) == (30.0, False)
    assert terminal.stages_left({"evaluation": 1}, took, [], at_once=1) == (None, False)


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_a_status_fits_the_terminal_and_a_dumb_one_is_none(monkeypatch, columns):
    assert len(terminal.fit("x" * 100, columns)) == min(columns - 1, 100)
    assert terminal.fit("x" * 100, 0) == terminal.fit("x" * 100, 80)
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen(Terminal()).rewrites


def test_a_study_in_a_pipe_has_a_line_for_each_start_epoch_and_end(tmp_path, pipe, clock):
    study = board(pipe, clock, classifier=1, all=1, total=2)
    training = job(tmp_path, "03_classifier")
    study.start(4, training)
    write(training.log, "WARNING: oneDNN is on", BAR, "", LINE.replace("3/6", "5/6"))
    clock.now = 40.0
    study.tick()
    study.tick()
    write(training.log, LINE.replace("3/6", "6/6"))
    clock.now = 75.0
    study.finish(4)
    study.close()
    assert lines_of(pipe) == [
        "03_classifier: training the classifier",
        "03_classifier: epoch 5 of 6, 34 s left, validation loss 1.38, accuracy 53.3%",
        "03_classifier: epoch 6 of 6, validation loss 1.38, accuracy 53.3%",
        "03_classifier: done in 1 min 15 s",
    ]
    assert not set("\r\x1b") & set(pipe.getvalue())


def test_a_remedy_that_failed_has_a_line_that_says_why(tmp_path, pipe, clock):
    study = board(pipe, clock, remedy=2)
    for number, (name, failed) in enumerate((("own", "ValueError: it has NaN"), ("median", None))):
        (tmp_path / "remedies" / name).mkdir(parents=True)
        (tmp_path / "remedies" / name / "remedy.json").write_text(json.dumps({"failed": failed}))
        study.start(number, job(tmp_path, name, rule="remedy"))
        clock.now += 7.0
        study.finish(number)
    assert lines_of(pipe) == [
        "remedy own: trying the remedy",
        "remedy own: failed after 7 s: ValueError: it has NaN",
        "remedy median: trying the remedy",
        "remedy median: done in 7 s",
    ]


def test_an_epoch_of_the_autoencoder_says_which_images_it_learns_from(tmp_path, pipe, clock):
    study = board(pipe, clock, autoencoder=1)
    training = job(tmp_path, "04_autoencoder")
    study.start(4, training)
    write(training.log, "epoch   2/2 raw  loss 0.02  2 s", "epoch   2/2 noisy  loss 0.03  2 s")
    study.finish(4)
    assert lines_of(pipe)[1:3] == [
        "04_autoencoder: epoch 2 of 2 on clean images, loss 0.02",
        "04_autoencoder: epoch 2 of 2 on noisy images, loss 0.03",
    ]


def test_a_terminal_shows_one_line_that_becomes_the_result(tmp_path, tty, clock):
    study = board(tty, clock, classifier=1)
    training = job(tmp_path, "03_classifier")
    study.start(4, training)
    clock.now = 7.0
    study.tick()
    assert tty.shown()[1:] == ["03_classifier: training the classifier, 7 s so far"]
    write(training.log, LINE)
    study.tick()
    clock.now = 19.0
    study.tick()
    assert tty.shown()[1:] == ["03_classifier: epoch 3 of 6, 1 min 30 s left, validation loss 1.38, accuracy 53.3%"]
    study.finish(4)
    study.close()
    assert tty.shown()[1:] == ["03_classifier: done in 19 s", ""]


def test_the_log_of_an_earlier_run_is_not_read(tmp_path, pipe, clock):
    training = job(tmp_path, "03_classifier")
    write(training.log, LINE)
    os.utime(training.log, (1, 1))
    study = board(pipe, clock, classifier=1)
    study.start(1, job(tmp_path, "03_classifier"))
    study.tick()
    assert len(lines_of(pipe)) == 1
    training.log.write_text(f"{LINE}\nepoch", encoding="utf-8")
    study.tick()
    write(training.log, LINE.replace("3/6", "4/6").removeprefix("epoch"), "going on after epoch 4 of 6, from /x.keras")
    study.tick()
    told = [f"03_classifier: {words}" for words in ("epoch 3 of 6", "epoch 4 of 6", "going on after epoch 4 of 6")]
    assert [line.split(",")[0] for line in lines_of(pipe)[1:]] == told


def test_a_job_that_is_tried_again_fails_once(tmp_path, pipe, clock):
    study = board(pipe, clock, noise=1)
    study.start(1, job(tmp_path, "02_noise"))
    clock.now = 12.0
    study.fail(1)
    study.start(1, job(tmp_path, "02_noise"))
    study.fail(1)
    assert lines_of(pipe) == ["02_noise: setting up the noise", "02_noise: failed after 12 s"]
    assert study.has_failed
    study.start(1, job(tmp_path, "02_noise"))
    study.finish(1)
    assert not study.has_failed


def test_a_sweep_counts(tmp_path, pipe, clock):
    sweep = board(pipe, clock, noise=4, evaluation=1)
    for number in (1, 2, 3):
        sweep.start(number, job(tmp_path / f"{number}", "02_noise"))
    clock.now = 4.0
    sweep.finish(1)
    sweep.start(4, job(tmp_path / "4", "02_noise"))
    sweep.tick()
    clock.now = 7.0
    sweep.fail(2)
    for number in (3, 4):
        sweep.finish(number)
    sweep.start(5, job(tmp_path / "5", "05_evaluation"))
    sweep.tick()
    sweep.finish(5)
    sweep.tick()
    assert lines_of(pipe) == [
        # Two jobs are running for 4 s each, one begins, and the evaluation has not been timed.
        "1 of 5 steps done, 3 running, 0 failed, at least 1 s left (02_noise took 4 s)",
        f"02_noise: failed after 7 s (log: {tmp_path}/2/logs/02_noise.txt)",
        "3 of 5 steps done, 1 running, 1 failed (02_noise took 7 s, 02_noise took 3 s)",
        "4 of 5 steps done, 0 running, 1 failed (05_evaluation took 0 s)",
    ]


def test_a_sweep_on_a_terminal_keeps_only_failures_and_its_end(tmp_path, tty, clock):
    sweep = board(tty, clock, noise=2)
    sweep.start(1, job(tmp_path / "1", "02_noise"))
    sweep.start(2, job(tmp_path / "2", "02_noise"))
    assert tty.shown()[1:] == ["0 of 2 steps done, 2 running, 0 failed, 0 s so far"]
    clock.now = 8.0
    sweep.finish(1)
    assert tty.shown()[1:] == ["1 of 2 steps done, 1 running, 0 failed, about 1 s left, 8 s so far"]
    sweep.finish(2)
    assert tty.shown()[1:] == ["2 of 2 steps done in 8 s", ""]


def test_jobs_in_a_clusters_queue_wait_until_they_write(tmp_path, tty, clock):
    sweep = board(tty, clock, noise=2)
    for number in (1, 2):
        sweep.start(number, job(tmp_path / f"{number}", "02_noise", local=False))
    clock.now = 100.0
    write(tmp_path / "1" / "logs" / "02_noise.txt", "Executing Cell 1")
    sweep.tick()
    assert tty.shown()[1:] == ["0 of 2 steps done, 1 running, 1 waiting, 0 failed, 1 min 40 s so far"]
    clock.now = 103.0
    sweep.finish(1)
    assert tty.shown()[1:] == ["1 of 2 steps done, 0 running, 1 waiting, 0 failed, about 3 s left, 1 min 43 s so far"]


@pytest.fixture
def results(tmp_path):
    """Return a folder with the result files of the stages."""
    recovery = {"value": 0.733, "low": 0.664, "high": 0.801}
    accuracies = {"clean": 0.745, "noisy": 0.258, "denoised": 0.615}
    history = [{"epoch": n, "val_loss": loss, "val_accuracy": 1 - loss} for n, loss in enumerate((0.5, 0.25, 0.3), 1)]
    for name, content in {
        "data/cache/cache.json": {"n_images": 3000, "image_size": 64, "kind": "standin"},
        "noise.json": {"sigma": 0.15, "n_stars": [14, 56], "strength": "calibrate"},
        "calibrated_noise.json": {"sigma": 0.15, "n_stars": [14, 56], "strength": 0.8125},
        "tables/classifier_history.json": history,
        "tables/autoencoder_history.json": history,
        "metrics.json": {"estimates": {"recovery": recovery} | {k: {"value": v} for k, v in accuracies.items()}},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_a_result_is_read_from_what_the_stage_left_and_none_stops_nothing(results):
    accuracies = "accuracy clean 74.5%, noisy 25.8%, denoised 61.5%"
    for stage, text in {
        "01_data": "3,000 images of 64 px (stand-in)",
        "02_noise": ("Gaussian noise of standard deviation 0.15, 14 to 56 stars per image, strength to be calibrated"),
        "03_classifier": "epoch 2 of 3 is the best, validation accuracy 75.0%",
        "04_autoencoder": "noise of strength 0.812; 3 epochs, validation loss 0.3000",
        "05_evaluation": f"{accuracies}; recovery 73% (95% interval 66% to 80%)",
        "something else": "",
    }.items():
        assert terminal.result(stage, results) == text
        assert terminal.result(stage, results / "empty") == ""
    # There is no recovery where nothing was lost.
    metrics = results / "metrics.json"
    estimates = json.loads(metrics.read_text())["estimates"] | {"recovery": dict.fromkeys(("value", "low", "high"))}
    metrics.write_text(json.dumps({"estimates": estimates}))
    assert terminal.result("05_evaluation", results) == accuracies


@pytest.fixture
def handler(monkeypatch, pipe):
    monkeypatch.setattr("sys.stderr", pipe)
    made = plugin.LogHandler(SimpleNamespace(stdout=False, dryrun=False), None)
    yield made
    made.close()


def send(handler, text, level=logging.INFO, **extra):
    record = logging.LogRecord("snakemake", level, __file__, 1, text, (), None)
    record.__dict__.update(extra)
    handler.handle(record)


def start(handler, folder, number=4):
    send(
        handler, "Rule: data", event=LogEvent.JOB_INFO, jobid=number, rule_name="data", local=True, log=[],
        wildcards={"folder": str(folder)}, output=[f"{folder}/marks/01_data"],
    )  # fmt: skip


def test_events_reach_the_board_and_chatter_does_not(handler, results, pipe):
    send(handler, "Building DAG of jobs...")
    send(handler, "Job stats", event=LogEvent.RUN_INFO, stats={"data": 1, "all": 1, "total": 2})
    start(handler, results)
    send(handler, "Finished jobid: 4", event=LogEvent.JOB_FINISHED, job_id=4)
    send(handler, "1 of 2 steps", event=LogEvent.PROGRESS, done=1, total=2)
    send(handler, "a guess at your account", logging.WARNING)
    assert [line.partition(" in ")[0] for line in lines_of(pipe)] == [
        "01_data: making and checking the images",
        "01_data: done",
    ]
    assert pipe.getvalue().startswith(f"Running 1 step. Each writes its log to {results}/logs/")


@pytest.mark.parametrize("target", ["all", "stages", "all_data"])
def test_targets_are_no_steps(handler, results, pipe, target):
    send(handler, "Job stats", event=LogEvent.RUN_INFO, stats={"data": 1, target: 1, "total": 2})
    start(handler, results)
    send(handler, "Finished jobid: 4", event=LogEvent.JOB_FINISHED, job_id=4)
    before = pipe.getvalue()
    send(
        handler, target, event=LogEvent.JOB_INFO, jobid=0, rule_name=target, local=True, log=[], wildcards={}, output=[]
    )
    assert before.startswith("Running 1 step.")
    assert pipe.getvalue() == before


def test_after_a_failure_only_the_explanation_follows(handler, tmp_path, pipe):
    send(handler, "Job stats", event=LogEvent.RUN_INFO, stats={"data": 1})
    start(handler, tmp_path)
    send(handler, "CalledProcessError", logging.ERROR, event=LogEvent.ERROR, exception="RuleException")
    send(handler, "Error in rule data", logging.ERROR, event=LogEvent.JOB_ERROR, jobid=4)
    send(handler, "Exiting because a job execution failed.", logging.ERROR)
    send(handler, "01_data failed: ValueError: x is 3, but 2 is needed: give 2", logging.ERROR, explains=True)
    send(handler, "WorkflowError", logging.ERROR, event=LogEvent.ERROR, exception="WorkflowError")
    assert [line.partition(" after ")[0] for line in lines_of(pipe)[1:]] == [
        "01_data: failed",
        "01_data failed: ValueError: x is 3, but 2 is needed: give 2",
    ]


def test_errors_that_are_no_jobs_are_printed(handler, pipe):
    send(handler, "MissingInputException: notebooks/01_data.ipynb", logging.ERROR, event=LogEvent.ERROR, exception="X")
    send(handler, "Directory cannot be locked", logging.ERROR, event=LogEvent.ERROR, exception="LockException")
    send(handler, "NameError in file Snakefile", logging.ERROR, event=LogEvent.ERROR, exception="RuleException")
    missing, locked, wrong = pipe.getvalue().splitlines()
    assert (missing, wrong) == ("MissingInputException: notebooks/01_data.ipynb", "NameError in file Snakefile")
    assert "make unlock" in locked


def test_nothing_to_do_is_one_line(handler, pipe):
    send(handler, "Building DAG of jobs...")
    send(handler, NOTHING_TO_BE_DONE_MSG)
    assert pipe.getvalue() == f"{NOTHING_TO_BE_DONE_MSG}\n"
    assert NOTHING_TO_BE_DONE_MSG.startswith("Nothing to be done")


def test_snakemake_finds_the_plugin_and_a_dry_run_shows_the_plan(pipe):
    assert LoggerPluginRegistry().is_installed("galaxynb")
    made = plugin.LogHandler(SimpleNamespace(stdout=True, dryrun=True), None)
    made._board = Board(Screen(pipe))
    send(made, "Job stats:\ndata 1", event=LogEvent.RUN_INFO, stats={"data": 1})
    start(made, "runs")
    made.close()
    assert pipe.getvalue() == "Job stats:\ndata 1\n"

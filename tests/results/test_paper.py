"""The paper's tables, checked by the paper's own arithmetic, and the tables that compare with them."""

import json
import math

import pandas as pd
import pytest

from galaxynb.data.galaxy10 import CLASS_NAMES
from galaxynb.files import save_table
from galaxynb.results.evaluation import class_report
from galaxynb.results.paper import PAPER, beside_paper, paper_summary, paper_table, recall_difference

ROWS = [*CLASS_NAMES, "accuracy", "macro avg", "weighted avg"]


@pytest.mark.parametrize("name", PAPER)
def test_paper_tables_agree_with_themselves_and_are_of_one_test_set(name):
    table = paper_table(name)
    per_class = table.loc[list(CLASS_NAMES)]
    assert list(table.index) == ROWS
    assert per_class["support"].tolist() == [204, 373, 529, 408, 71, 436, 365, 516, 283, 363]
    assert (table.loc[ROWS[10:], "support"] == per_class["support"].sum()).all()
    assert per_class["support"].sum() == 3548
    # Printed numbers are off by up to .005 each, so an average and its printed value differ by up to .01.
    columns, rounding = ["precision", "recall", "f1-score"], 0.0101
    weighted = per_class[columns].mul(per_class["support"], axis=0).sum() / 3548
    for name, average in (("weighted avg", weighted), ("macro avg", per_class[columns].mean())):
        assert average.tolist() == pytest.approx(table.loc[name, columns].tolist(), abs=rounding)
    assert weighted["recall"] == pytest.approx(table.loc["accuracy", "f1-score"], abs=rounding)
    f1 = 2 / (1 / per_class["precision"] + 1 / per_class["recall"])
    # The smallest recall, .02, has a rounding error of a quarter of its value.
    assert (f1.fillna(0) - per_class["f1-score"]).abs().max() < 0.02


def test_paper_summary():
    summary = paper_summary()
    assert [summary[name] for name in PAPER] == [0.74, 0.33, 0.70]
    assert [summary[name] for name in ("drop", "gain", "recovery")] == [0.41, 0.37, 0.37 / 0.41]


def test_paper_table_refuses_another_name():
    message = "'raw', but a table of the paper is needed: choose one of clean, noisy, denoised"
    with pytest.raises(ValueError, match=message):
        paper_table("raw")


def test_beside_paper_keeps_both_sides_apart():
    frame = class_report([0, 0, 1, 1], [0, 1, 1, 1])
    both = beside_paper(frame, "clean")
    assert both.columns.tolist() == [
        "Class",
        *("Precision", "Precision (paper)", "Recall", "Recall (paper)"),
        *("F1-score", "F1-score (paper)", "Support", "Support (paper)"),
    ]
    assert both["Class"].tolist()[0] == "0 Disturbed"
    assert both["Class"].tolist()[10:] == ["Accuracy", "Macro average", "Weighted average"]
    assert both.loc[0, ["Recall", "Recall (paper)"]].tolist() == [0.5, 0.53]
    assert both.loc[10, ["F1-score", "F1-score (paper)"]].tolist() == [0.75, 0.74]
    message = r"report has the rows Disturbed, .* but those of the paper's table are needed"
    with pytest.raises(ValueError, match=message):
        beside_paper(frame.iloc[:10], "clean")


def test_recalls_differ_by_the_root_mean_square_over_classes_alone():
    table = beside_paper(paper_table("noisy"), "noisy")
    table.loc[[0, 3], "Recall"] += [0.3, -0.01]
    table.loc[10:, "Recall"] = 1  # the averages do not count
    assert recall_difference(table) == pytest.approx(((0.3**2 + 0.01**2) / 10) ** 0.5)


def test_save_table_rounds_the_csv_and_not_the_json(tmp_path):
    both = beside_paper(class_report([0, 0, 1, 1], [0, 1, 1, 1]), "noisy")
    csv, path = save_table(both, tmp_path / "deep" / "table.2")
    assert (csv.name, path.name) == ("table.2.csv", "table.2.json")
    lines = csv.read_text().splitlines()
    assert lines[1] == "0 Disturbed,1.00,0.16,0.50,0.39,0.67,0.23,2,204"
    assert lines[11] == "Accuracy,,,,,0.75,0.33,4,3548"
    rows = json.loads(path.read_text())
    assert rows[0]["F1-score"] == both.loc[0, "F1-score"] != 0.67
    assert rows[10]["Precision"] is None
    assert type(rows[0]["Support"]) is int
    assert sorted(p.name for p in csv.parent.iterdir()) == ["table.2.csv", "table.2.json"]


def test_save_table_keeps_a_named_index_and_blanks_infinity(tmp_path):
    frame = pd.DataFrame({"psnr": [math.inf, 1.25]}, index=pd.Index(["a", "b"], name="images"))
    csv, path = save_table(frame, tmp_path / "t", decimals=1)
    assert csv.read_text() == "images,psnr\na,\nb,1.2\n"
    assert json.loads(path.read_text()) == [{"images": "a", "psnr": None}, {"images": "b", "psnr": 1.25}]

"""Results of remedies over runs with different seeds."""

import numpy as np
import pandas as pd
import pytest
from paths import REFERENCE

from galaxynb.remedies.seeds import CONCLUSIONS, compared_over_runs, differences_over_runs, spread_of_remedies
from galaxynb.remedies.tables import PROBABILITIES, compare_pairs


def results(values):
    """Return the table of a sweep from values by run and metric."""
    rows = [(run, metric, value) for (run, metric), value in values.items()]
    return pd.DataFrame(rows, columns=["point", "metric", "value"])


def plain(table):
    return table.replace(chr(160), " ", regex=True).set_index("Remedy")


def test_remedies_are_compared_with_the_autoencoder_of_the_same_run():
    # Run b is easier for both, so the difference scatters less than either accuracy.
    found = results(
        {
            ("a", "remedy/autoencoder/noisy"): 0.50,
            ("b", "remedy/autoencoder/noisy"): 0.60,
            ("a", "remedy/median/noisy"): 0.41,
            ("b", "remedy/median/noisy"): 0.51,
        }
    )
    table = plain(spread_of_remedies(found))
    assert table.index.tolist() == ["Median filter", "The paper's autoencoder"]
    assert table.loc["Median filter", "Minus autoencoder"] == "-0.090 ± 0.000"
    assert table.loc["Median filter", "Higher in"] == "0 of 2"
    assert table.loc["The paper's autoencoder", "Minus autoencoder"] == ""


def test_a_remedy_that_failed_in_a_run_is_compared_in_the_others():
    found = results(
        {
            ("a", "remedy/autoencoder/noisy"): 0.5,
            ("b", "remedy/autoencoder/noisy"): 0.5,
            ("a", "remedy/own/noisy"): 0.6,
            ("a", "remedy/own/recovery"): np.nan,
            ("b", "accuracy/noisy"): 0.3,
        }
    )
    table = plain(spread_of_remedies(found))
    assert table.loc["Your remedy", ["Runs", "Noisy images", "Higher in"]].tolist() == ["1", "0.600", "1 of 1"]
    assert "Recovery" not in table


@pytest.mark.parametrize("metric", ["accuracy/noisy", "remedy/unknown/noisy"])
def test_without_remedies_the_table_is_empty(metric):
    assert spread_of_remedies(results({("a", metric): 0.5})).empty
    assert compared_over_runs(results({("a", metric): 0.5})).empty
    assert differences_over_runs(results({("a", metric): 0.5})).empty


def test_pairs_are_compared_in_the_runs_that_have_both():
    found = results(
        {
            ("a", "remedy/autoencoder/noisy"): 0.50,
            ("b", "remedy/autoencoder/noisy"): 0.60,
            ("c", "remedy/autoencoder/noisy"): 0.60,
            ("a", "remedy/unet/noisy"): 0.53,
            ("b", "remedy/unet/noisy"): 0.59,
        }
    )
    differences = differences_over_runs(found)["Residual U-Net"]
    assert differences.tolist() == pytest.approx([0.03, -0.01, np.nan], nan_ok=True)
    pairs = [("unet", "autoencoder"), ("autoencoder", "unet"), ("unet", "median")]
    first, second = compared_over_runs(found, pairs=pairs).replace(chr(160), " ", regex=True).to_numpy().tolist()
    assert first == ["Residual U-Net", "The paper's autoencoder", "0.010 ± 0.028", "1 of 2"]
    assert second == ["The paper's autoencoder", "Residual U-Net", "-0.010 ± 0.028", "1 of 2"]


def test_remedies_are_listed_where_the_autoencoder_failed():
    # Run a has only the filter, run b only the autoencoder.
    found = results({("a", "remedy/median/noisy"): 0.41, ("b", "remedy/autoencoder/noisy"): 0.50})
    for rows in (found, found[:1]):
        table = plain(spread_of_remedies(rows))
        assert table.loc["Median filter", "Noisy images"] == "0.410"
        assert not {"Minus autoencoder", "Higher in"} & set(table)
        assert differences_over_runs(rows).empty
        assert compared_over_runs(rows, pairs=[("median", "autoencoder")]).empty


def test_each_conclusion_is_measured_at_half():
    kept = REFERENCE / "remedies" / "rows"

    def right(name):
        table = pd.read_parquet(kept / name / "predictions.parquet").query("images == 'noisy'").set_index("row")
        return (table[list(PROBABILITIES)].to_numpy().argmax(axis=1) == table["label"]).to_numpy()

    for name, other in CONCLUSIONS:
        assert right(name).sum() > right(other).sum(), (name, other)
        assert compare_pairs(right(name), right(other)) * 21 < 0.05, (name, other)

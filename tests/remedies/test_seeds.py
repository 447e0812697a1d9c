"""Results of remedies over runs with different seeds."""

import numpy as np
import pandas as pd
import pytest

from galaxynb.remedies.seeds import spread_of_remedies


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
    assert table.loc["Median filter", "Better in"] == "0 of 2"
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
    assert table.loc["Your remedy", ["Runs", "Noisy images", "Better in"]].tolist() == ["1", "0.600", "1 of 1"]
    assert "Recovery" not in table


@pytest.mark.parametrize("metric", ["accuracy/noisy", "remedy/unknown/noisy"])
def test_without_remedies_the_table_is_empty(metric):
    assert spread_of_remedies(results({("a", metric): 0.5})).empty

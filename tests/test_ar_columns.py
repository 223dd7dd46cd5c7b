"""Columns beside the lags: what they are, and that they go on beyond the end."""

import numpy as np
import pytest

from hidamari.inference.ar_columns import (
    Columns,
    event_columns,
    fourier_columns,
    join,
    lagged_columns,
    trend_columns,
)


def test_trends_bend_and_go_on():
    values = trend_columns(np.arange(30.0), 20, 3).values
    assert values.shape == (30, 4)
    bends = np.abs(np.diff(values, n=2, axis=0)) > 1e-12
    assert bends.sum(axis=0).tolist() == [0, 1, 1, 1]
    assert np.flatnonzero(bends.any(axis=1)).max() < 16


def test_seasons_repeat_and_are_orthogonal():
    columns = fourier_columns(np.arange(48.0), 24, 12)
    assert columns.values.shape == (48, 23)
    np.testing.assert_allclose(columns.values[:24], columns.values[24:], atol=1e-12)
    moments = columns.values.T @ columns.values
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-10)
    far = fourier_columns(np.arange(48.0) + 24e9, 24, 12)
    np.testing.assert_allclose(far.values, columns.values, atol=1e-12)
    with pytest.raises(ValueError, match="3 harmonics of 5 rows"):
        fourier_columns(np.arange(5.0), 5, 3)


def test_events_and_lags():
    found = event_columns(np.arange(6), {"a": [1, 4], "b": []}, (-1, 0))
    assert found.names == ("a[-1]", "a", "b[-1]", "b")
    assert found.groups == ("event[a]", "event[a]", "event[b]", "event[b]")
    assert found.values.sum(axis=0).tolist() == [2, 2, 0, 0] and found.values[0, 0] == 1
    with pytest.raises(ValueError, match="event_window"):
        event_columns(np.arange(6), {}, (1, 0))
    lagged = lagged_columns(np.arange(3.0)[:, None], ["x"], [0, 2, 5])
    np.testing.assert_array_equal(lagged.values[2], [2.0, 0.0, np.nan])


def test_names_are_told_apart():
    one = Columns(np.zeros((2, 1)), ("x",), ("x",))
    with pytest.raises(ValueError, match=r"names \['x'\] more than once"):
        join(2, [one, one])

"""Anderson's extrapolation of a fixed-point iteration from its last rounds."""

from collections.abc import Sequence

import numpy as np

__all__ = ["extrapolate"]


def extrapolate(past: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """Where x -> G(x) seems to be heading, from pairs (x_i, G(x_i)), oldest first; None from one pair.

    The affine combination of the G(x_i) whose residuals G(x_i) - x_i combine to the shortest vector
    (Walker and Ni 2011, equation 2.2). Nothing guarantees it to be better: check the objective there.

    Examples
    --------
    >>> import numpy as np
    >>> x = [np.array([4.0]), np.array([3.0])]
    >>> float(extrapolate([(v, 0.5 * v + 1.0) for v in x])[0])
    2.0
    """
    if len(past) < 2:
        return None
    residuals = np.array([g - x for x, g in past])
    images = np.array([g for _, g in past])
    steps = np.diff(residuals, axis=0)
    # weights by least squares; steps that are nearly combinations of others get none
    weights = np.linalg.lstsq(steps.T, residuals[-1], rcond=1e-6)[0]
    return images[-1] - weights @ np.diff(images, axis=0)

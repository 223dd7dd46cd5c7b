"""How a model was learned, as pictures: its bound, and draws of its hyperparameters."""

import numpy as np

from hidamari.plotting._style import PALETTE, new_axes, signed

__all__ = ["elbo"]


def elbo(model, ax=None):
    """Draw how the evidence lower bound rose, in nats.

    Parameters
    ----------
    model : Estimator or array_like (iteration,)
        A fitted model with ``elbo_``, or the values themselves; the first is that of the start.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the model is not fitted, or there is not one finite value.

    Examples
    --------
    >>> import hidamari as hd
    >>> hd.plotting.elbo([-120.0, -100.0, -98.0]).get_ylabel()
    'ELBO (nats)'
    """
    from matplotlib.ticker import MaxNLocator

    if hasattr(model, "fit") and not hasattr(model, "elbo_"):
        raise ValueError("model has no elbo_: fit it first")
    values = np.asarray(getattr(model, "elbo_", model), dtype=float).ravel()
    if not np.isfinite(values).any():
        raise ValueError("model has no finite value of the ELBO")
    ax = new_axes(ax, 3.0, width=5.5)
    ax.plot(values, color=PALETTE[0], linewidth=1.6, marker="o", markersize=3)
    last = np.flatnonzero(np.isfinite(values))[-1]
    label = [f"{signed(values[last], ',.1f')} nats", f"after {last} iterations"]
    if hasattr(model, "converged_"):
        label.append("converged" if model.converged_ else "not converged")
    # Below the end, inside: an ELBO rises, so that corner is empty.
    ax.annotate("\n".join(label), (last, values[last]), xytext=(0, -8), textcoords="offset points",
                color=PALETTE[0], ha="right", va="top", fontsize="small")  # fmt: skip
    ax.set_xlabel("iteration")
    ax.set_ylabel("ELBO (nats)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax

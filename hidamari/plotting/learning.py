"""How a model was learned, as pictures: its bound, and draws of its hyperparameters."""

import numpy as np

from hidamari.plotting._style import GREY, INK, PALETTE, new_axes, signed

__all__ = ["elbo", "posterior"]

_MAX_ROWS = 12  # more parameters than this are chosen by name


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


def posterior(tree, names=None, axes=None):
    """Draw the marginal distribution of each sampled parameter, and beside it the chains it came from.

    A bar holds the middle 95 % of the draws, a dot is their median. Lines of one colour are one chain; ticks
    above a trace are divergent transitions, of which there should be none.

    Parameters
    ----------
    tree : xarray.DataTree or xarray.Dataset
        Group ``posterior`` with dims (chain, draw[, ...]), and where it is there ``sample_stats`` with
        ``diverging``; or the Dataset of the posterior itself.
    names : sequence of str, optional
        Parameters to draw; all by default.
    axes : array of matplotlib.axes.Axes, shape (parameter, 2), optional
        Where to draw; a new figure by default.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (parameter, 2)

    Raises
    ------
    ValueError
        If there is no posterior, a name is not in it, a variable lacks chains and draws, there are more than
        12 scalars to draw, or `axes` has another shape.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hidamari as hd
    >>> draws = np.random.default_rng(0).gamma(2.0, size=(4, 250))
    >>> tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"lengthscale": (("chain", "draw"), draws)})})
    >>> hd.plotting.posterior(tree).shape
    (1, 2)
    """
    draws = _scalars(tree, names)
    divergent = _divergent(tree, next(iter(draws.values())).shape)
    if axes is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=(9.0, 0.5 + 1.5 * len(draws)), layout="constrained")
        axes = figure.subplots(len(draws), 2, squeeze=False, width_ratios=[1, 1.6], sharex=False)
    axes = np.asarray(axes, dtype=object)
    if axes.shape != (len(draws), 2):
        raise ValueError(f"axes has shape {axes.shape}; allowed: ({len(draws)}, 2)")
    for (name, values), (left, right) in zip(draws.items(), axes):
        _marginal(left, values)
        for c, chain in enumerate(values):
            right.plot(chain, color=PALETTE[c % len(PALETTE)], linewidth=0.5, alpha=0.8)
        at = np.flatnonzero(divergent.any(axis=0))
        if len(at):  # nothing at all, drawn beyond the Axes, leaves no room for anything
            right.plot(at, np.ones(len(at)), "|", color=INK, markersize=8, clip_on=False,
                       transform=right.get_xaxis_transform())  # fmt: skip
        right.set_xlim(0, values.shape[1] - 1)
        right.spines[["top", "right"]].set_visible(False)
        right.tick_params(labelbottom=right is axes[-1, 1])
        low, middle, high = map(_brief, np.quantile(values, [0.025, 0.5, 0.975]))
        left.set_title(f"{name}: {middle} ({low} to {high})", loc="left", fontsize="small", color=GREY)
    n_chains, n_divergent = len(divergent), int(divergent.sum())
    axes[0, 1].set_title(
        f"{n_chains} chain{'s' * (n_chains > 1)}, {n_divergent} divergent",
        loc="left", fontsize="small", color=GREY,
    )  # fmt: skip
    axes[-1, 1].set_xlabel("draw")
    return axes


def _marginal(ax, values):
    """Draw the histogram of all draws, the outline of each chain's own, and the middle 95 %."""
    edges = np.histogram_bin_edges(values.ravel(), bins=int(np.clip(np.sqrt(values.size), 10, 40)))
    ax.hist(values.ravel(), edges, density=True, color=PALETTE[0], alpha=0.18)
    for c, chain in enumerate(values):
        colour = PALETTE[c % len(PALETTE)]
        ax.hist(chain, edges, density=True, histtype="step", color=colour, linewidth=0.8, alpha=0.9)
    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
    ax.plot([low, high], [0, 0], color=INK, linewidth=3, solid_capstyle="butt", clip_on=False)
    ax.plot([middle], [0], "o", color=INK, markersize=6, clip_on=False, markeredgecolor="white")
    ax.set_yticks([])
    ax.spines[["top", "right", "left"]].set_visible(False)


def _brief(value):
    """Format a number with three digits that count, and without a power of ten while it is readable."""
    return signed(value, ",.0f" if 1e3 <= abs(value) < 1e6 else ".3g")


def _scalars(tree, names):
    """Return every scalar of the posterior as (chain, draw), by its name with its index."""
    ds = getattr(tree, "children", {}).get("posterior", tree)
    variables = getattr(ds, "data_vars", {})
    if not variables:
        raise ValueError(f"tree is {type(tree).__name__} without a group 'posterior'")
    missing = [name for name in names or () if name not in variables]
    if missing:
        raise ValueError(
            f"names has {missing}, which are not in the posterior: {sorted(map(str, variables))}"
        )
    scalars = {}
    for name in names or variables:
        array = variables[name]
        if not {"chain", "draw"} <= set(array.dims):
            raise ValueError(f"{name} has dims {array.dims}; allowed: (chain, draw[, ...])")
        rest = [dim for dim in array.dims if dim not in ("chain", "draw")]
        values = array.transpose("chain", "draw", *rest).values
        for index in np.ndindex(values.shape[2:]):
            labels = [array[dim].values[i] for dim, i in zip(rest, index)]
            label = f"{name}[{', '.join(map(str, labels))}]" if labels else str(name)
            scalars[label] = values[(slice(None), slice(None), *index)]
    if len(scalars) > _MAX_ROWS:
        raise ValueError(f"names are {len(scalars)} scalars; allowed: at most {_MAX_ROWS}, choose some")
    return scalars


def _divergent(tree, shape):
    """Return which transitions diverged, (chain, draw); none where the tree does not say."""
    stats = getattr(tree, "children", {}).get("sample_stats")
    if stats is None or "diverging" not in stats:
        return np.zeros(shape, dtype=bool)
    return stats["diverging"].transpose("chain", "draw").values.astype(bool)

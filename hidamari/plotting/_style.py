"""The house style: colours, new Axes, names at the ends of lines, numbers as axes write them."""

import numpy as np

# Okabe & Ito (2008), told apart with every kind of colour vision; their yellow is too light on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B")
INK, GREY, PALE = "#1A1A1A", "#6B6B6B", "#DDDDDD"
Z95 = 1.959963984540054  # the 97.5 % point of the standard normal


def new_axes(ax, height, width=8.0):
    """Return `ax`, or the Axes of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def variable(ds, name):
    """Return a variable of a Dataset; an array stands for itself."""
    if not hasattr(ds, "dims"):
        raise ValueError(f"ds is {type(ds).__name__}; an xarray Dataset or DataArray is needed")
    if not hasattr(ds, "data_vars"):
        return ds
    if name not in ds:
        raise ValueError(f"ds has no variable {name!r}; it has {sorted(map(str, ds.data_vars))}")
    return ds[name].assign_attrs(bin_s=ds.attrs["bin_s"]) if "bin_s" in ds.attrs else ds[name]


def name_at(ax, x, y, text, colour):
    """Write a line's name just right of its end."""
    ax.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", color=colour,
                va="center", fontsize="small", annotation_clip=False)  # fmt: skip


def nice(limit):
    """Return the largest of 1, 2, 5 times a power of ten up to `limit`."""
    if not limit > 0:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(limit))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= limit * (1 + 1e-12)))


def signed(value, form):
    """Format a number as axes do, with a minus sign and not a hyphen."""
    return format(value, form).replace("-", "\N{MINUS SIGN}")

"""Pictures of how new ratings differ from earlier ones."""

import pandas as pd
from matplotlib.figure import Figure


def stability_plot(title: str, fields: pd.DataFrame) -> Figure:
    """Stability index of each field as a bar, with a mark at its limit where it has one.

    Args:
        title: of the figure.
        fields: field (str), stability_index (float), limit (float, NaN for none), in the order from the top down.
    """
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(fields))
    axes.barh(places, fields["stability_index"], label="stability index")
    axes.scatter(fields["limit"], places, marker="|", s=150, color="black", zorder=3, label="accepted")
    axes.set(title=title, xlabel="population stability index", yticks=list(places), yticklabels=list(fields["field"]))
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    return figure


def intakes_plot(title: str, totals: pd.DataFrame) -> Figure:
    """Share of positive labels by intake; below it ratings, users and movies, on a scale of powers of ten.

    Args:
        title: of the figure.
        totals: as in ``drift.Comparison``; intake 0, the base files, has a share but no numbers shown.
    """
    figure = Figure(figsize=(6, 6), layout="constrained")
    shares, counts = figure.subplots(2, 1, sharex=True)
    shares.plot(totals.index, totals["positive_share"], marker="o")
    shares.set(title=title, ylabel="share of positive labels", ylim=(0, 1))
    nights = totals[totals.index > 0]
    for name in ("ratings", "users", "movies"):
        counts.plot(nights.index, nights[name], marker="o", label=name)
    counts.set(xlabel="intake (0: base files)", ylabel="number")
    counts.set_yscale("symlog", linthresh=1)
    counts.xaxis.get_major_locator().set_params(integer=True)
    for axes in (shares, counts):
        axes.grid(alpha=0.3)
    if len(nights):
        counts.legend()
    return figure

"""Draw disk and memory over a year of nights."""

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

_LINES = {"disk_mib": "disk", "daemon_mib": "UI with its daemon", "service_mib": "REST service"}


def drawn(measures: Sequence[Mapping[str, float]]) -> bytes:
    """Return a PNG: a line for each measure, MiB by night."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    disk, memory = figure.subplots(1, 2)
    for name, label in _LINES.items():
        nights = [each["night"] for each in measures if name in each]
        axes = disk if name == "disk_mib" else memory
        axes.plot(nights, [each[name] for each in measures if name in each], label=label)
    for axes in (disk, memory):
        axes.set(xlabel="night", ylabel="MiB", ylim=(0, None))
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()

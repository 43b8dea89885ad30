"""The picture: one small bar chart for each kind of figure, the targets side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Column, Medians, value

_COLOURS = {
    "coatcheck": "#c2410c",
    "haproxy": "#1d4ed8",
    "pgbouncer": "#1d4ed8",
    "squid": "#0f766e",
    "mitmproxy": "#7c3aed",
    "direct": "#9ca3af",
}
_ACROSS = 3


def draw(medians: Medians, targets: Sequence[str], wanted: Sequence[Column], file: Path) -> None:
    """Writes a PNG. Raises ImportError if matplotlib is not installed."""
    import matplotlib  # slow to import, and only the last step needs it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [column for column in wanted if any(value(medians, target, column) is not None for target in targets)]
    down = -(-len(shown) // _ACROSS)
    figure, axes = pyplot.subplots(down, _ACROSS, figsize=(4.2 * _ACROSS, 2.4 * down), squeeze=False)
    for axis, column in zip(axes.flat, shown, strict=False):
        bars = [(target, v) for target in targets if (v := value(medians, target, column)) is not None]
        names = [target for target, _ in bars]
        drawn = axis.barh(names, [v for _, v in bars], color=[_COLOURS[name] for name in names])
        axis.bar_label(drawn, [format(v, column.form) for _, v in bars], fontsize=7, padding=2)
        axis.set_title(column.title, fontsize=8, loc="left")
        axis.tick_params(labelsize=7)
        axis.invert_yaxis()
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_visible(False)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)

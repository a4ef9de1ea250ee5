"""PNGs of a results file: rates against batch size, and the gaps in running answers around a long prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Two of Okabe and Ito's colours, which the colour-blind tell apart, and two shapes, for print without colour.
STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": "#0072B2", "marker": "o", "label": "mlxbridge"},
    "mlx_lm": {"color": "#D55E00", "marker": "s", "label": "mlx_lm"},
}
TITLES = {"greedy": "Greedy", "own sampling": "Each request with its own sampling"}
# 1,600 pixels wide; text stays readable at half of that.
_INCHES = (8.0, 4.6)
_DPI = 200
# Any: matplotlib's own type is a dictionary of all its settings.
_SETTINGS: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
}


def draw(results: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw what the results have data for, beside their file: STEM-rates.png and STEM-gaps.png."""
    pictures = []
    with matplotlib.rc_context(_SETTINGS):
        for name, make in (("rates", _rates), ("gaps", _gaps)):
            if (figure := make(results)) is not None:
                pictures.append(path.with_name(f"{path.stem}-{name}.png"))
                figure.savefig(pictures[-1], dpi=_DPI)
    return pictures


def _rates(results: Mapping[str, Any]) -> Figure | None:
    lines = {
        kind: sorted(
            (line for line in results["summary"] if line["kind"] == kind and line["quantity"] == "tokens/s"),
            key=lambda line: line["rows"],
        )
        for kind in TITLES
    }
    lines = {kind: points for kind, points in lines.items() if points}
    if not lines:
        return None
    alone = [
        line for line in results["summary"] if line["kind"] == "alone" and line["quantity"] == "tokens/s"
    ]
    figure = _figure(results, "Tokens per second while a whole batch is being answered")
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    greatest = max(line[side] for points in lines.values() for line in points for side in STYLES)
    for axes, (kind, points) in zip(panels, lines.items(), strict=True):
        rows = [line["rows"] for line in points]
        for side, style in STYLES.items():
            values = [line[side] for line in points]
            axes.plot(rows, values, linewidth=1.8, markersize=4.5, **style)
        _label_ends(axes, points[-1], greatest)
        axes.set_title(TITLES[kind])
        axes.set_xscale("log", base=2)
        axes.set_xticks(rows, [str(number) for number in rows])
        axes.minorticks_off()
        width = max(2.0, rows[-1] / rows[0])
        axes.set_xlim(rows[0] / width**0.06, rows[-1] * width**0.37)
        axes.set_ylim(0, 1.12 * greatest)
        axes.set_xlabel("requests at once")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if alone and "greedy" in lines:
        rate = alone[0]["mlx_lm"]
        panels[0].plot([1], [rate], marker="D", markersize=5, color="black", linestyle="none", zorder=5)
        panels[0].text(
            0.03, 0.94, f"◆ mlx_lm generate_step: {rate:,.0f}", transform=panels[0].transAxes, fontsize=9.5
        )
    panels[0].set_ylabel("tokens/s, all together")
    return figure


def _label_ends(axes: Any, last: Mapping[str, Any], greatest: float) -> None:
    """Names and values to the right of the lines' last points, moved apart if they would touch."""
    upper, lower = sorted(STYLES, key=lambda side: -last[side])
    apart = max(0.0, 0.11 * greatest - (last[upper] - last[lower]))
    for side, shift in ((upper, apart / 2), (lower, -apart / 2)):
        axes.annotate(
            f"{STYLES[side]['label']}\n{last[side]:,.0f}",
            (last["rows"], last[side] + shift),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=STYLES[side]["color"],
            fontweight="bold",
            fontsize=9.5,
        )


def _gaps(results: Mapping[str, Any]) -> Figure | None:
    gaps: Mapping[str, Sequence[float]] = results["gaps"]
    if not all(len(gaps.get(side, [])) > 1 for side in STYLES):
        return None
    found = {line["quantity"]: line for line in results["summary"] if line["case"] == "long prompt"}
    num_tokens = results["settings"]["long_prompt"]
    figure = _figure(results, f"A prompt of {num_tokens:,} tokens arrives beside 8 running answers")
    panels = figure.subplots(len(STYLES), 1, sharex=True, sharey=True)
    for axes, (side, style) in zip(panels, STYLES.items(), strict=True):
        times = gaps[side]
        heights = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
        ends = [moment / 1e3 for moment in times[1:]]
        axes.vlines(ends, 0.1, heights, color=style["color"], linewidth=0.8, alpha=0.5)
        axes.plot(
            ends, heights, linestyle="none", markersize=2.5, color=style["color"], marker=style["marker"]
        )
        axes.set_yscale("log")
        axes.set_ylabel("gap (ms)")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        first = found["first_long"][side] / 1e3
        axes.axvline(0, color="#555555", linewidth=1, linestyle=":")
        axes.axvline(first, color="#555555", linewidth=1, linestyle="--")
        axes.set_title(
            f"{style['label']}: usual gap {_ms(found['gap_before'][side])}, then at most "
            f"{_ms(found['gap_max'][side])}; the long one begins after {first:,.2f} s",
            color=style["color"],
            fontweight="bold",
            fontsize=9.5,
        )
    everything = [
        later - earlier for each in gaps.values() for earlier, later in zip(each, each[1:], strict=False)
    ]
    panels[0].set_ylim(min(everything) / 1.5, max(everything) * 1.6)
    panels[-1].set_xlabel("seconds since it arrived (dotted); its first token (dashed, median of the rounds)")
    return figure


def _ms(value: float) -> str:
    return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _figure(results: Mapping[str, Any], title: str) -> Figure:
    figure = Figure(figsize=_INCHES, layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, 0.075, 1, 0.925))
    settings = results["settings"]
    figure.suptitle(f"{title}\n", x=0.012, ha="left", fontsize=12, fontweight="bold")
    figure.text(
        0.012,
        0.92,
        f"{settings['shape']} with random weights, {settings['dtype']}; mlx_lm: its BatchGenerator",
        fontsize=10,
    )
    figure.text(
        0.012,
        0.015,
        f"{results['device']}, MLX {results['versions'].get('mlx', '?')}, mlx-lm "
        f"{results['versions'].get('mlx-lm', '?')}, {results['date'][:10]}; medians of {results['num_rounds']} rounds\n"
        f"{results['command'].partition(' --output ')[0]}",
        fontsize=8,
        color="#444444",
        wrap=True,
    )
    return figure

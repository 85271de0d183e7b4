"""Grids of metrics by segment and period, comparisons of grids, and plots (extra ``plot``)."""

from helicone_sessions.report.cells import GridCell, Quantity
from helicone_sessions.report.comparison import Change, GridComparison
from helicone_sessions.report.grid import MetricsGrid, metrics_grid
from helicone_sessions.report.periods import Period
from helicone_sessions.report.plot import plot_comparison, plot_grid, plot_metrics

__all__ = [
    "Change",
    "GridCell",
    "GridComparison",
    "MetricsGrid",
    "Period",
    "Quantity",
    "metrics_grid",
    "plot_comparison",
    "plot_grid",
    "plot_metrics",
]

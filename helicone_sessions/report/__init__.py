"""What people look at: grids of metrics, tables, pictures."""

from helicone_sessions.report.cells import GridCell, Quantity
from helicone_sessions.report.comparison import Change, GridComparison
from helicone_sessions.report.grid import MetricsGrid, metrics_grid
from helicone_sessions.report.windows import Window

__all__ = ["Change", "GridCell", "GridComparison", "MetricsGrid", "Quantity", "Window", "metrics_grid"]

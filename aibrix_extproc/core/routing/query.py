"""The values of placing, which live on the ground floor because the exchange carries them too."""

from aibrix_extproc.core.fleet.placement import Load, Placement, RouteQuery

__all__ = ["Load", "Placement", "RouteQuery"]

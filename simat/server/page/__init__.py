"""The page: search, edit and draw in a browser, with nothing loaded from elsewhere. Needs the extra ``serve``."""

from simat.server.page.mounting import mount_page

__all__ = ["mount_page"]

"""Puts the page into an application."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI

from simat.server.page.guard import Narrow
from simat.server.page.running import Queue
from simat.server.page.theme import css, head, theme
from simat.server.service import Service

ROOM = 2**20  # bytes of a question beside its picture


def mount_page(app: FastAPI, service: Service, queue: Queue) -> None:
    """Serve the page at ``/``, after every route that the application has already.

    Args:
        app: the application.
        service: what answers.
        queue: where the making of pictures waits for its turn.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import gradio as gr

    from simat.server.page.blocks import build_page

    gr.mount_gradio_app(
        app,
        build_page(service, queue),
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=theme(),
        css=css(),
        head=head(),
        max_file_size=1,
    )
    mounted: Any = app.routes[-1]
    app.state.closing = mounted.app.stop_event.set  # ends the streams of open pages, which would outlast the server
    mounted.app = Narrow(mounted.app, service.options.upload_bytes * 4 // 3 + ROOM)

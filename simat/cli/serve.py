"""``simat serve``: indices and generators over HTTP, with a page for people."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli import pictures
from simat.cli.answers import DeviceOption, GpusOption, RootOption
from simat.cli.console import console
from simat.errors import SimatError

if TYPE_CHECKING:
    from simat.server.options import ServiceOptions
    from simat.server.security import Security
    from simat.server.service import Service

SHUTDOWN_S = 30  # for requests under way, when the server is told to stop
INDICES_HELP = (
    "Folders made by 'simat index build', or addresses of Milvus; without any, the server draws and edits, and finds "
    "nothing."
)
FOLLOW_HELP = "Look every so many seconds whether an index has changed, and open it anew."
BACKENDS_HELP = "Those that may be used, separated by commas: retrieve, diffedit, …; all, if not given."


def serve(
    indices: Annotated[list[Path] | None, typer.Argument(metavar="[INDEX]...", help=INDICES_HELP)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    token_file: Annotated[Path | None, typer.Option(help="A file whose only line every client must know.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name by which the server is called, too.")] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may use the routes of clip-retrieval.")
    ] = None,
    allow_fetch: Annotated[
        list[str] | None, typer.Option(help="A host that pictures may be fetched from, over https.")
    ] = None,
    backends: Annotated[str | None, typer.Option(help=BACKENDS_HELP)] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page at /.")] = True,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line.")] = False,
    log_words: Annotated[bool, typer.Option("--log-words", help="Let logs hold what is asked.")] = False,
    upload: Annotated[int, typer.Option(help="The greatest picture that is taken, in MiB.", min=1)] = 20,
    queue: Annotated[int, typer.Option(help="Pictures to be made that may wait.", min=1)] = 16,
    jobs: Annotated[Path | None, typer.Option(help="A folder where answers of jobs outlive the server.")] = None,
    follow: Annotated[float, typer.Option(help=FOLLOW_HELP, show_default="never")] = 0.0,
    model: pictures.ModelOption = "scenes",
    root: RootOption = None,
    device: DeviceOption = "auto",
    gpus: GpusOption = "",
    precision: Annotated[str, typer.Option(help="What queries are encoded in: f32, or bf16, twice as fast.")] = "f32",
    dtype: pictures.DtypeOption = "auto",
    slicing: pictures.SlicingOption = False,
    offload: pictures.OffloadOption = False,
) -> None:
    """Serve indices and generators over HTTP: a page, an API, and the protocol of clip-retrieval."""
    _check_installed()
    from simat.encoders.runtime import RuntimeOptions
    from simat.server import logs
    from simat.server.options import ServiceOptions
    from simat.server.security import Security, read_token

    token = None if token_file is None else read_token(token_file)
    security = Security.of(host, token, allow_host or (), allow_origin or (), log_words)
    options = ServiceOptions(
        upload_bytes=upload << 20,
        queue=queue,
        state=jobs,
        fetch=tuple(allow_fetch or ()),
        backends=None if backends is None else _names(backends),
        model=pictures.model_options(model, device, dtype, slicing, offload, ()),
        runtime=RuntimeOptions(precision, device, gpus=gpus),  # type: ignore[arg-type]
        root=root,
        follow=follow,
    )
    with _listen(host, port) as listening:
        logs.configure(json_logs, log_words)
        _run(indices or [], options, security, page, listening)


def _run(
    indices: list[Path], options: ServiceOptions, security: Security, page: bool, listening: socket.socket
) -> None:
    import uvicorn

    from simat.server.app import create_app
    from simat.server.connections import uvicorn_options
    from simat.server.service import Service

    service = Service(indices, options)
    app = create_app(service, security, page)
    _tell(service, listening, page)
    config = uvicorn.Config(app, **uvicorn_options(timeout_graceful_shutdown=SHUTDOWN_S))
    server = uvicorn.Server(config)
    _on_exit(server, getattr(app.state, "closing", None))
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # that is how a server ends
        console().print("stopped")


def _on_exit(server: Any, closing: Callable[[], None] | None) -> None:
    """Have something called as soon as the server is told to stop, before it waits for requests under way."""
    leave = server.handle_exit

    def handle_exit(number: int, frame: FrameType | None) -> None:
        leave(number, frame)
        if closing is not None:
            closing()

    server.handle_exit = handle_exit


def _tell(service: Service, listening: socket.socket, page: bool) -> None:
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    out = console()
    for name in service.names:
        out.print(f"{name}: {len(service.engine(name)):,} images", markup=False)
    for path, what in (("/", "the page"), ("/docs", "the API")):
        if page or path != "/":
            out.print(f"{address + path:<32} {what}", markup=False)


def _listen(host: str, port: int) -> socket.socket:
    plain = host.strip("[]")
    try:
        return socket.create_server((plain, port), family=socket.AF_INET6 if ":" in plain else socket.AF_INET)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SimatError(
            f"cannot listen: {reason.lower()}", got=f"{host}:{port}", remedy="take another --port, or 0 for a free one"
        ) from error


def _names(text: str) -> tuple[str, ...]:
    from simat import plugins

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    there = plugins.registered(plugins.BACKENDS)
    for name in names:
        if name not in there:
            raise SimatError("no such backend", got=repr(name), remedy=f"there are: {', '.join(there)}")
    return names


def _check_installed() -> Any:
    try:
        import fastapi
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SimatError("the server is not installed", remedy="pip install 'simat[serve]'") from error
    return fastapi

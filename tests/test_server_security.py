from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from simat.errors import Denied
from simat.server import doors, guard, problems
from simat.server.security import Security, check_binding, is_loopback, name_of, read_token

TOKEN = "a token that is long enough".replace(" ", "-")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
EVIL = {"Origin": "https://evil.test"}


def application() -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.api_route("/v1/search", methods=["GET", "POST"])
    @app.api_route("/knn-service", methods=["GET", "POST"])
    @app.get("/healthz")
    async def found() -> dict[str, str]:
        return {"found": "yes"}

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse("<h1>page</h1>", headers={"Access-Control-Allow-Origin": "*"})

    @app.get("/files/{path:path}")
    async def files(path: str) -> dict[str, str]:
        return {"path": path}

    @app.get("/me")
    async def me(request: Request) -> dict[str, str]:
        return {"id": request.state.request_id}

    return app


@pytest.fixture
def client() -> Callable[..., TestClient]:
    """``client(security)``: a browser or program on this machine."""

    def make(security: Security | None, base: str = "http://localhost:8000", **options: Any) -> TestClient:
        app = application()
        guard.install(app, security, upload_bytes=1000)
        return TestClient(app, base, follow_redirects=False, **options)

    return make


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]", "LOCALHOST"])
def test_binding_to_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    check_binding(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "8.8.8.8", "example.org", "", "localhost.evil.test"])
def test_binding_elsewhere_needs_a_token(host: str) -> None:
    with pytest.raises(Denied, match="needs a token"):
        check_binding(host, None)
    with pytest.raises(Denied, match="give --token-file FILE, or bind to 127"):
        Security.of(host)
    check_binding(host, TOKEN)


def test_security_knows_the_names_of_an_address() -> None:
    assert Security.of("127.0.0.1").hosts == {"localhost", "127.0.0.1", "[::1]"}
    assert Security.of("127.0.0.1", names=["Photos.Home"]).hosts == {"localhost", "127.0.0.1", "[::1]", "photos.home"}
    assert "127.3.3.3" in (Security.of("127.3.3.3").hosts or ())
    assert Security.of("0.0.0.0", TOKEN).hosts is None
    assert Security.of("0.0.0.0", TOKEN, ["photos.home"]).hosts == {"photos.home"}


def secret(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_read_token_gives_the_line_of_a_file(tmp_path: Path) -> None:
    assert read_token(secret(tmp_path, f"{TOKEN}\n")) == TOKEN


@pytest.mark.parametrize(
    "text", ["", "\n", "short", "x" * 15, "two lines of\nenough letters", "a b c d e f g h i j k", "é" * 20]
)
def test_read_token_refuses_what_is_no_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(Denied, match="at least 16 printable characters"):
        read_token(secret(tmp_path, text))


def test_read_token_refuses_what_others_can_read(tmp_path: Path) -> None:
    with pytest.raises(Denied, match=r"read by others.*chmod 600"):
        read_token(secret(tmp_path, TOKEN, 0o644))
    with pytest.raises(Denied, match="cannot be read"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8000", "localhost"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("a.b", "a.b"),
        ("", ""),
        ("[::1", ""),
    ],
)
def test_name_of_leaves_the_port_out(host: str, name: str) -> None:
    assert name_of(host) == name


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:8000", "[::1]:8000", "LocalHost:8000"])
def test_guard_answers_to_names_of_this_machine(client: Callable[..., TestClient], host: str) -> None:
    assert client(Security()).get("/v1/search", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "localhost.evil.test", "evil.test:8000", "127.0.0.1.evil.test", "192.168.1.5", ""]
)
def test_guard_answers_to_no_other_name(client: Callable[..., TestClient], host: str) -> None:
    answer = client(Security()).get("/v1/search", headers={"Host": host})
    assert answer.status_code == 403
    assert answer.json()["title"] == "this server is not known by that name"


def test_guard_without_security_lets_everybody_in(client: Callable[..., TestClient]) -> None:
    answer = client(None, "http://testserver").post("/v1/search", headers=EVIL)
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_guard_lets_other_sites_change_nothing(client: Callable[..., TestClient]) -> None:
    own = client(Security())
    assert own.post("/v1/search", headers=EVIL).json()["title"] == "pages of other sites may not ask this"
    assert own.post("/v1/search", headers={"Origin": "null"}).status_code == 403
    assert own.post("/v1/search", headers={"Origin": "http://localhost:9999"}).status_code == 403
    assert own.post("/v1/search", headers={"Origin": "http://localhost:8000"}).status_code == 200
    assert own.post("/v1/search").status_code == 200
    assert "access-control-allow-origin" not in own.get("/v1/search", headers=EVIL).headers


def test_guard_takes_away_what_shares_too_much(client: Callable[..., TestClient]) -> None:
    assert "access-control-allow-origin" not in client(Security()).get("/").headers


@pytest.mark.parametrize("path", ["/knn-service", "//knn-service", "/knn-service/"])
def test_guard_shares_the_foreign_routes_with_pages_of_this_machine(
    client: Callable[..., TestClient], path: str
) -> None:
    near = {"Origin": "http://127.0.0.1:3000"}
    own = client(Security())
    asked = {**near, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    before = own.options(f"http://localhost:8000{path}", headers=asked)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == near["Origin"]
    assert "POST" in before.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in before.headers
    answer = own.post("/knn-service", headers=near)
    assert answer.headers["access-control-allow-origin"] == near["Origin"]
    assert "Origin" in answer.headers["vary"]


def test_guard_shares_the_foreign_routes_with_named_sites_alone(client: Callable[..., TestClient]) -> None:
    def asks(security: Security, origin: str) -> int:
        return client(security).post("/knn-service", headers={"Origin": origin}).status_code

    assert asks(Security(), "https://evil.test") == 403
    assert asks(Security(origins=frozenset({"https://front.test"})), "https://front.test") == 200
    assert asks(Security(origins=frozenset({"https://front.test"})), "https://evil.test") == 403
    assert asks(Security(origins=frozenset({"https://front.test"})), "https://front.test.evil.test") == 403
    assert asks(Security(origins=frozenset("*")), "https://any.test") == 200
    shut = client(Security()).options("/knn-service", headers={**EVIL, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in shut.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Cookie": f"simat={TOKEN}"},
        {"Cookie": "simat="},
        {"X-Token": TOKEN},
    ],
)
def test_guard_asks_for_the_token(client: Callable[..., TestClient], headers: dict[str, str]) -> None:
    locked = client(Security.of("0.0.0.0", TOKEN))
    for method, path in (("GET", "/v1/search"), ("POST", "/v1/search"), ("GET", "/knn-service"), ("GET", "/nothing")):
        answer = locked.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert locked.get("/v1/search", params={"token": TOKEN}).status_code == 401


def test_guard_lets_the_token_in(client: Callable[..., TestClient]) -> None:
    locked = client(Security.of("0.0.0.0", TOKEN))
    assert locked.get("/v1/search", headers=BEARER).status_code == 200
    assert locked.get("/v1/search", headers={"Authorization": f"bearer  {TOKEN}"}).status_code == 200
    assert locked.post("/v1/search", headers={**BEARER, **EVIL}).status_code == 403


def test_guard_tells_anyone_that_the_server_lives_and_no_more(client: Callable[..., TestClient]) -> None:
    locked = client(Security.of("0.0.0.0", TOKEN))
    assert locked.get("/healthz").status_code == 200
    assert locked.get("/healthz/../v1/search").status_code in {400, 401}


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=255), max_size=60))
def test_doors_know_no_other_token(given: str) -> None:
    headers = [(b"authorization", b"Bearer " + given.encode("latin-1"))]
    request = Request({"type": "http", "headers": headers})
    assert doors.Doors(TOKEN).knows(request) == (given == TOKEN)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "PAUSE_S", 0.0)


def test_a_person_enters_by_the_form(client: Callable[..., TestClient], no_pause: None) -> None:
    locked = client(Security.of("0.0.0.0", TOKEN), "http://photos.home")
    html = {"Accept": "text/html,*/*"}
    shut = locked.get("/?q=dog&k=3", headers=html)
    assert shut.status_code == 401
    assert 'action="/login?next=%2F%3Fq%3Ddog%26k%3D3"' in shut.text
    assert "script" not in shut.text
    wrong = locked.post("/login", data={"token": "wrong"}, headers={"Origin": "http://photos.home"})
    assert wrong.status_code == 401
    assert "not the token" in wrong.text
    assert not locked.cookies
    entered = locked.post("/login?next=%2F%3Fq%3Ddog", data={"token": TOKEN}, headers={"Origin": "http://photos.home"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/?q=dog")
    flags = entered.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags
    assert TOKEN not in entered.headers["set-cookie"]
    assert locked.get("/", headers=html).text == "<h1>page</h1>"
    assert locked.post("/v1/search", headers={"Origin": "http://photos.home"}).status_code == 200
    assert locked.post("/v1/search", headers=EVIL).status_code == 403
    assert locked.get("/login").headers["location"] == "/"
    locked.post("/logout")
    assert locked.get("/v1/search").status_code == 401


def test_a_cookie_holds_for_one_token_and_is_kept_to_https(client: Callable[..., TestClient]) -> None:
    locked = client(Security.of("0.0.0.0", TOKEN), "https://photos.home")
    assert "secure" in locked.post("/login", data={"token": TOKEN}).headers["set-cookie"].lower()
    other = client(Security.of("0.0.0.0", TOKEN + "x"), "https://photos.home", cookies=dict(locked.cookies))
    assert other.get("/v1/search").status_code == 401


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.test/",
        "//evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "javascript:alert(1)",
        "/login",
        "[",
        "\n/x",
    ],
)
def test_the_form_leads_to_no_other_site(client: Callable[..., TestClient], onward: str) -> None:
    answer = client(Security.of("0.0.0.0", TOKEN)).post("/login", params={"next": onward}, data={"token": TOKEN})
    assert answer.status_code == 303
    target = answer.headers["location"]
    assert target.startswith("/")
    assert not target.startswith(("//", "/\\"))


def test_the_form_shows_an_address_as_text(client: Callable[..., TestClient]) -> None:
    answer = client(Security.of("0.0.0.0", TOKEN)).get(
        '/?q="><script>alert(1)</script>', headers={"Accept": "text/html"}
    )
    assert "<script>" not in answer.text


def test_the_form_takes_no_long_body(client: Callable[..., TestClient]) -> None:
    locked = client(Security.of("0.0.0.0", TOKEN))
    assert locked.post("/login", content=b"token=" + b"x" * 9000).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2fsecret",
        "/files/%2e%2e/secret",
        "/files/%2e%2e%2fsecret",
        "/files/a%5c..%5cb",
        "/files/a%00b",
        "/files/%2e/b",
        "/files/a%0ab",
    ],
)
def test_guard_refuses_paths_that_lead_elsewhere(client: Callable[..., TestClient], path: str) -> None:
    answer = client(Security()).get(path)
    assert answer.status_code == 400
    assert answer.json()["title"] == "a path that leads elsewhere"


def test_guard_leaves_other_paths_as_they_are(client: Callable[..., TestClient]) -> None:
    assert client(Security()).get("/files/a..b/%C3%A9%20c.png").json()["path"] == "a..b/é c.png"


def test_guard_puts_headers_on_every_answer(client: Callable[..., TestClient]) -> None:
    own = client(Security.of("127.0.0.1", TOKEN))
    for answer in (own.get("/nothing", headers=BEARER), own.get("/v1/search"), own.get("/", headers=BEARER)):
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-site"
        assert answer.headers["x-request-id"]
    assert "script-src 'self'" in own.get("/", headers=BEARER).headers["content-security-policy"]
    data = own.get("/v1/search", headers=BEARER)
    assert data.headers["content-security-policy"].startswith("default-src 'none'")
    assert data.headers["cache-control"] == "no-store"


def test_guard_takes_no_websocket(client: Callable[..., TestClient]) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client(Security()).websocket_connect("/"):
        pass


def test_requests_have_an_id_that_a_client_may_give(client: Callable[..., TestClient]) -> None:
    own = client(Security())
    answer = own.get("/me", headers={"X-Request-ID": "mine-7"})
    assert answer.json() == {"id": "mine-7"}
    assert answer.headers["x-request-id"] == "mine-7"
    for bad in ("a b", "x" * 65, 'a"b', ""):
        assert own.get("/me", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad
    refused = own.get("/me", headers={"Host": "evil.test", "X-Request-ID": "mine-8"})
    assert refused.json()["request"] == "mine-8"


def test_guard_compares_tokens_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []
    monkeypatch.setattr(doors.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    lock = doors.Doors(TOKEN)
    assert lock.knows(Request({"type": "http", "headers": [(b"authorization", f"Bearer {TOKEN}".encode())]}))
    assert not lock.knows(Request({"type": "http", "headers": []}))
    assert compared[0] == (TOKEN.encode(), TOKEN.encode())
    assert len(compared) == 2


def test_the_form_waits_after_a_wrong_token(client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(doors, "asyncio", type("Clock", (), {"sleep": staticmethod(sleep)}))
    client(Security.of("0.0.0.0", TOKEN)).post("/login", data={"token": "wrong"})
    assert waited == [doors.PAUSE_S]


def test_problems_of_the_guard_are_problem_details(client: Callable[..., TestClient]) -> None:
    answer = client(Security()).get("/", headers={"Host": "evil.test"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(json.loads(answer.text)) == {"type", "title", "status", "detail", "got", "remedy", "request"}

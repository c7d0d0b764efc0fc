"""The load: what `wrk` sends, what it says, and what a process has used."""

import http.client
import json
import re
import socket
import subprocess
from pathlib import Path

REQUESTS = 512  # made before the load begins, sent in turn
CALL_BYTES = 300

LUA = """
local requests, at = {}, 0
init = function()
  for line in io.lines("%s") do
    local path, session, id = line:match("^(%%S+) (%%S+) (%%S+)$")
    local headers, body = {}, nil
    if session ~= "-" then
      headers = {["Content-Type"] = "application/json", ["Accept"] = "application/json, text/event-stream",
        ["Mcp-Protocol-Version"] = "2025-06-18"}
      headers["Mcp-Session-Id"] = session
      body = '{"jsonrpc":"2.0","id":' .. id .. ',"method":"tools/call","params":{"name":"echo","arguments":{"text":"'
      body = body .. string.rep("p", %d - #body - 4) .. '"}}}'
    elseif id ~= "-" then
      body = string.rep("p", tonumber(id))
    end
    requests[#requests + 1] = wrk.format(body and "POST" or "GET", path, headers, body)
  end
end
request = function() at = at %% #requests + 1; return requests[at] end
done = function(sum, latency)
  local e = sum.errors
  io.write(string.format('JSON{"n":%%d,"us":%%d,"p50":%%d,"p99":%%d,"errors":%%d,"bytes":%%d}\\n', sum.requests, sum.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status, sum.bytes))
end
"""


def pinned(core):
    return ["taskset", "-c", str(core)]


def accepts(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer, text


def check(port, service, route):
    """The proxy takes the prefix away, keeps the query and sets the token; an unknown instance is a 404."""
    instance, key = route
    answer, head = ask(port, "GET", f"/{instance}/{service}/head/a?q=1")
    if not head.startswith("GET /head/a?q=1 HTTP/1.1") or f"authorization: bearer {key}" not in head.lower():
        raise RuntimeError(f"port {port} does not pass on as it should: {answer.status} {head[:300]!r}")
    answer, _ = ask(port, "GET", f"/00000000-0000-4000-8000-000000000000/{service}/x")
    if answer.status != 404:
        raise RuntimeError(f"port {port} knows what is not there: {answer.status}")


def open_session(port, path):
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}}
    answer, text = ask(port, "POST", path, json.dumps(hello), headers)
    session = answer.getheader("Mcp-Session-Id")
    if answer.status != 200 or not session:
        raise RuntimeError(f"no session at port {port}: {answer.status} {text[:300]!r}")
    headers["Mcp-Session-Id"] = session
    ask(port, "POST", path, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}), headers)
    return session


class Load:
    """Requests to one proxy, ready to be sent as often as wanted."""

    def __init__(self, proxy, folder, kind):
        service = "tool" if kind == "mcp" else "web"
        routes, self.proxy, self.kind = proxy.fleet.routes[service], proxy, kind
        chosen = routes[:: max(1, len(routes) // REQUESTS)][:REQUESTS]
        rest = {"http": "/api/v1/items?page=2", "mcp": "/mcp", "get": "/big", "post": "/up"}[kind]
        paths = [proxy.path(service, instance, rest) for instance, _ in chosen]
        port = proxy.port_of(service)
        sessions = [open_session(port, path) for path in paths] if kind == "mcp" else ["-"] * len(paths)
        count = 1 if kind == "post" else REQUESTS
        size = 1 << 20 if kind == "post" else "-"
        rows = folder / f"{proxy.name}-{proxy.fleet.count}-{kind}"
        with open(rows, "w") as file:
            for number in range(count):
                at = number % len(paths)
                file.write(f"{paths[at]} {sessions[at]} {number + 1 if kind == 'mcp' else size}\n")
        self.script = rows.with_suffix(".lua")
        self.script.write_text(LUA % (rows, CALL_BYTES))
        self.url = f"http://127.0.0.1:{port}"

    def run(self, connections, seconds, core):
        command = [*pinned(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(self.script), self.url]
        before = cpu_seconds(self.proxy.pids())
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
        used = cpu_seconds(self.proxy.pids()) - before
        found = re.search(r"JSON(\{.*\})", done.stdout)
        if not found:
            raise RuntimeError(done.stdout + done.stderr)
        told = json.loads(found.group(1))
        least = 1 << 20 if self.kind == "get" else 200
        if told["errors"] or not told["n"] or told["bytes"] < told["n"] * least:
            raise RuntimeError(f"{self.proxy.name}, {self.kind}: not all was answered as it should be: {told}")
        return {"rate": told["n"] / told["us"] * 1e6, "p50": told["p50"], "p99": told["p99"], "cpu": used / told["n"] * 1e5}


def cpu_seconds(pids):
    """Of all their threads that live."""
    return sum(int(task.read_text().split()[0]) for pid in pids for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def rss_kb(pids):
    return sum(int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) for pid in pids)


def open_streams(proxy, count):
    """Open event streams that each have said something."""
    routes, streams = proxy.fleet.routes["web"], []
    for number in range(count):
        stream = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        path = proxy.path("web", routes[number % len(routes)][0], "/sse")
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{proxy.port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        streams.append(stream)
    for stream in streams:
        text = b""
        while b"data: hi" not in text:
            piece = stream.recv(4096)
            if not piece:
                raise RuntimeError(f"{proxy.name}: a stream was closed: {text[:300]!r}")
            text += piece
    return streams

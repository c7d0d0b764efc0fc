"""Updates of mcpm (`mcpm update`) under requests on kept connections and open streams."""

import encodings.idna  # what connecting loads late, when this user may not read it any more
import json
import shutil
import socket
import threading
import time

from .managers import Mcpm
from .services import WEB
from .world import free_port


def ask(connection, path, host):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("the connection ended before an answer")
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(head.split(b"\r\n")[0].decode())
    head = head.lower()
    if b"transfer-encoding: chunked" in head:
        while not body.endswith(b"0\r\n\r\n"):
            piece = connection.recv(65536)
            if not piece:
                raise OSError("a stream was cut")
            body += piece
        if body.count(b"data:") != 40:
            raise OSError("a stream has lost events")
    else:
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)
    return b"connection: close" not in head


def update_rounds(folder, program, updates):
    """Updates under requests on kept connections and open streams; failed requests and restarts."""
    manager = Mcpm(folder, {}, program)
    (folder / "web.py").write_text(WEB)
    app = {"name": "web", "script": "web.py", "interpreter": shutil.which("python3"), "mcp": {"service": "web", "port": free_port(), "protocol": "http", "health": {"http": "/x"}, "auth": {"type": "api_key", "fields": [{"name": "api_key"}]}}}
    (folder / "apps.json").write_text(json.dumps({"apps": [app]}))
    stop, threads = threading.Event(), []
    try:
        manager.run(program, "start", "apps.json")
        manager.run(program, "users", "add", "chaos")
        told = json.loads(manager.run(program, "instances", "add", "web", "--user", "chaos", "--json", input="key\n"))
        return under_load(manager, told["instanceUrl"], updates, stop, threads)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        manager.end()


def under_load(manager, url, updates, stop, threads):
    host, path = url.removeprefix("http://").split("/", 1)
    address = (host.split(":")[0], int(host.split(":")[1]))
    failed, asked, took = [], [0, 0], []

    def load(kind, tail):
        connection = None
        while not stop.is_set():
            try:
                connection = connection or socket.create_connection(address, timeout=60)
                if ask(connection, f"/{path}/{tail}", host):
                    asked[kind] += 1
                    continue
                asked[kind] += 1
                connection.close()
            except OSError as error:
                failed.append(f"{tail}: {error}")
            connection = None

    threads.extend(threading.Thread(target=load, args=a) for a in [(0, "x")] * 4 + [(1, "stream")] * 4)
    for thread in threads:
        thread.start()
    for _ in range(updates):
        began = time.monotonic()
        manager.run(manager.program, "update")
        took.append(time.monotonic() - began)
        time.sleep(0.1)
    restarts = manager.restarts()["web"]
    stop.set()
    for thread in threads:
        thread.join()
    return {"failed": failed, "requests": asked[0], "streams": asked[1], "restarts": restarts, "took": took}

"""The proxies: each with the same routes to the same two services, on one core."""

import json
import signal
import subprocess
import uuid
from pathlib import Path

from chaos_suite.managers import Mcpm
from chaos_suite.world import alive, free_block, free_port, wait_for

from .load import accepts, check, pinned

SERVICES = {"web": "http", "tool": "mcp"}  # a user has at most one instance of each
NAMED_MAX = 10_000  # so many instances have an id that is known here


class Fleet:
    """So many instances of the two services, and one mcpm that has them. Its services are what all proxies ask."""

    def __init__(self, scratch, count, options, backend):
        self.count, self.options = count, options
        self.manager = Mcpm(scratch / f"home-{count}", {name: [str(backend)] for name in SERVICES}, options.mcpm)
        first = free_block(len(SERVICES) + 1)
        self.manager.listen = first + len(SERVICES)
        self.ports = {name: first + number for number, name in enumerate(SERVICES)}
        field = {"name": "api_key", "type": "password", "required": True}
        auth = {"type": "api_key", "fields": [field], "inject": {"headers": {"Authorization": "Bearer {api_key}"}}}
        for name, protocol in SERVICES.items():
            self.manager.more[name] = {"mcp": {"service": name, "port": self.ports[name], "protocol": protocol, "auth": auth}}
        self.manager.write()
        # The command starts the daemon, which has as many threads as it may use cores.
        self.manager.run(*pinned(options.proxy_core), *self.manager.first())
        try:
            self.routes = self.filled(scratch / f"rows-{count}.jsonl")
            self.core_of_services(options.load_core)
        except BaseException:
            self.close()
            raise

    def filled(self, file):
        """An id in some ten thousand is refused as one that could be guessed, and all with it: then others are drawn."""
        for _ in range(4):
            try:
                return self.fill(file)
            except RuntimeError as error:
                if "too easy to guess" not in str(error):
                    raise
        raise RuntimeError("ids that were drawn at random are refused as too easy to guess, again and again")

    def fill(self, file):
        """Instance id and credential by service, of those that are known here."""
        users = self.count // len(SERVICES)
        each = max(1, users // (NAMED_MAX // len(SERVICES)))
        routes = {name: [] for name in SERVICES}
        with open(file, "w") as rows:
            for number in range(users):
                for name in SERVICES:
                    row = {"user": f"user-{number:07}", "service": name, "api_key": f"sk-{number:032x}"}
                    if number % each == 0:
                        row["alias"] = str(uuid.uuid4())
                        routes[name].append((row["alias"], row["api_key"]))
                    rows.write(json.dumps(row) + "\n")
        text = self.manager.run(*self.manager.tell("instances", "import", str(file), "--add-users", "--json"))
        if json.loads(text[text.index("{\n"):])["added"] != users * len(SERVICES):
            raise RuntimeError(f"not all instances were imported: {text[-500:]}")
        file.unlink()
        return routes

    def core_of_services(self, core):
        for pid in self.manager.online(self.manager.run(*self.manager.tell("jlist"))).values():
            subprocess.run(["taskset", "-apc", str(core), str(pid)], stdout=subprocess.DEVNULL, check=True)

    def close(self):
        pid = self.manager.pid()
        self.manager.end()
        wait_for("the daemon's end", lambda: not alive(pid))


class Proxy:
    """One of them, over a fleet's services."""

    name = "mcpm"

    def __init__(self, fleet, scratch):
        self.fleet, self.port, self.process = fleet, fleet.manager.listen, None
        self.folder = scratch / f"{self.name}-{fleet.count}"
        self.folder.mkdir()
        self.start()
        wait_for(f"{self.name} on port {self.port}", lambda: accepts(self.port) or None)
        if self.name != "direct":
            for service in SERVICES:
                check(self.port, service, fleet.routes[service][-1])

    def start(self):
        """mcpm runs already."""

    def spawn(self, *command):
        log = open(self.folder / "log", "w")
        self.process = subprocess.Popen([*pinned(self.fleet.options.proxy_core), *command], stdout=log, stderr=log)

    def pids(self):
        return [self.fleet.manager.pid()]

    def path(self, service, instance, rest):
        return f"/{instance}/{service}{rest}"

    def port_of(self, service):
        return self.port

    def close(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Direct(Proxy):
    """None: the limit of load and service."""

    name = "direct"

    def start(self):
        self.port = self.fleet.ports["web"]

    def pids(self):
        return []

    def path(self, service, instance, rest):
        return rest

    def port_of(self, service):
        return self.fleet.ports[service]


class Nginx(Proxy):
    """One worker."""

    name = "nginx"

    def start(self):
        self.port, w = free_port(), self.folder
        known = [(f"{instance}/{service}", service, key) for service, routes in self.fleet.routes.items() for instance, key in routes]
        to = "\n".join(f'"{route}" {service};' for route, service, _ in known)
        token = "\n".join(f'"{route}" "{key}";' for route, _, key in known)
        upstreams = "\n".join(f"upstream {name} {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests 100000000; }}" for name, port in self.fleet.ports.items())
        (w / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {w}/pid; error_log {w}/error crit; worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; client_max_body_size 8m;
  client_body_temp_path {w}/b; proxy_temp_path {w}/p; fastcgi_temp_path {w}/f; uwsgi_temp_path {w}/u; scgi_temp_path {w}/s;
  map_hash_max_size 65536; map_hash_bucket_size 128;
  map "$inst/$svc" $to {{ default ""; {to} }}
  map "$inst/$svc" $tok {{ default ""; {token} }}
  {upstreams}
  server {{
    listen 127.0.0.1:{self.port} backlog=1024;
    location ~ ^/(?<inst>[^/]+)/(?<svc>[^/]+)(?<rest>/.*)$ {{
      if ($to = "") {{ return 404; }}
      proxy_pass http://$to$rest$is_args$args;
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header Authorization "Bearer $tok";
      proxy_request_buffering off; proxy_max_temp_file_size 0;
    }}
  }}
}}""")
        self.spawn("nginx", "-p", str(w), "-c", str(w / "nginx.conf"))

    def pids(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]


class Haproxy(Proxy):
    """One thread."""

    name = "haproxy"

    def start(self):
        self.port, w = free_port(), self.folder
        known = [(f"{instance}/{service}", service, key) for service, routes in self.fleet.routes.items() for instance, key in routes]
        (w / "to.map").write_text("".join(f"{route} {service}\n" for route, service, _ in known))
        (w / "token.map").write_text("".join(f"{route} {key}\n" for route, _, key in known))
        backends = "".join(f"backend {name}\n  server s 127.0.0.1:{port} pool-max-conn 1000\n" for name, port in self.fleet.ports.items())
        (w / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend f
  bind 127.0.0.1:{self.port} backlog 1024
  http-request set-var(txn.key) path,field(2,/,2)
  http-request set-var(txn.to) var(txn.key),map_str({w}/to.map)
  http-request return status 404 unless {{ var(txn.to) -m found }}
  http-request set-header Authorization "Bearer %[var(txn.key),map_str({w}/token.map)]"
  http-request replace-path /[^/]+/[^/]+(/.*) \\1
  use_backend %[var(txn.to)]
{backends}""")
        self.spawn("haproxy", "-db", "-q", "-f", str(w / "haproxy.cfg"))

    def pids(self):
        return [self.process.pid]


KINDS = [Direct, Proxy, Nginx, Haproxy]

"""The managers: how each is started, told and found."""

import json
import os
import subprocess
from pathlib import Path

from .world import free_port, wait_for


class Manager:
    """One of them, with services that write to `out/NAME.log`."""

    def __init__(self, folder, services, program):
        self.folder, self.services, self.program = folder, services, program
        self.marker = f"{self.name}-{os.getpid()}"
        self.more = {}  # more keys of a service by its name, in the manager's own words
        self.apart = {}  # services that `start` leaves alone, for `extra`
        self.logs = folder / "out"
        self.logs.mkdir(parents=True)

    def apps(self, form):
        for name, command in self.services.items():
            yield form(name, command)

    def run(self, *command, check=True, **kw):
        done = subprocess.run(command, capture_output=True, text=True, env=self.env(), cwd=self.folder, timeout=600, **kw)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr[-800:] or done.stdout[-800:]}")
        return done.stdout

    def spawn(self, command):
        return subprocess.Popen(command, env=self.env(), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def restart_some(self, names):
        return self.spawn(self.tell("restart", *names))

    def keep(self):
        """Notes what runs, where the next one would not know it otherwise."""

    def clear(self):
        """Takes away what a dead one leaves in the next one's way."""


class OfApps(Manager):
    """Those that read an ecosystem file."""

    app_keys = {}

    def app(self, name, command):
        app = {"name": name, "script": command[0], "args": command[1:], "interpreter": "none", "env": {"CHAOS": self.marker, "CHAOS_NAME": name}, "out_file": str(self.logs / f"{name}.log"), "merge_logs": True}
        return {**app, **self.app_keys, **self.more.get(name, {})}

    def write(self):
        (self.folder / "apps.json").write_text(json.dumps({"apps": list(self.apps(self.app))}))
        for name, command in self.apart.items():
            (self.folder / f"{name}.json").write_text(json.dumps({"apps": [self.app(name, command)]}))

    def tell(self, *args):
        return [self.program, *args]

    def first(self):
        return self.tell("start", str(self.folder / "apps.json"))

    def extra(self, name):
        return self.tell("start", str(self.folder / f"{name}.json"))

    def pid(self):
        return int((self.folder / "home" / f"{self.name.lower()}.pid").read_text())

    def again(self):
        self.run(*self.next())

    @staticmethod
    def online(text):
        """The pids of what its `jlist` shows as online, by name."""
        return {p["name"]: p["pid"] for p in json.loads(text[text.index("["):]) if p["pm2_env"]["status"] == "online"}

    def end(self):
        self.run(*self.tell("kill"), check=False)


class Mcpm(OfApps):
    name = "mcpm"

    def __init__(self, folder, services, program):
        super().__init__(folder, services, program)
        self.listen = free_port()

    def env(self):
        return {**os.environ, "MCPM_HOME": str(self.folder / "home"), "MCPM_LISTEN": f"127.0.0.1:{self.listen}", "NO_COLOR": "1"}

    def start(self):
        self.write()
        self.run(*self.first(), "--no-wait", check=False)

    def next(self):
        return self.tell("ping")

    def restarts(self):
        return {p["name"]: p["pm2_env"]["restart_time"] for p in json.loads(self.run(*self.tell("jlist")))}


class Pm2(OfApps):
    name = "PM2"
    app_keys = {"vizion": False}

    def env(self):
        return {**os.environ, "PM2_HOME": str(self.folder / "home"), "NO_COLOR": "1"}

    def start(self):
        self.write()
        self.run(*self.first())
        self.keep()

    def keep(self):
        self.run(*self.tell("save"))

    def next(self):
        return self.tell("resurrect")


class Supervisord(Manager):
    name = "supervisord"

    def env(self):
        return dict(os.environ)

    def tell(self, *args):
        return [str(Path(self.program).with_name("supervisorctl")), "-c", str(self.folder / "supervisord.conf"), *args]

    def app(self, name, command):
        keys = {"stdout_logfile_maxbytes": 0, "redirect_stderr": "true", **self.more.get(name, {})}
        return f"[program:{name}]\ncommand={' '.join(command)}\nenvironment=CHAOS=\"{self.marker}\",CHAOS_NAME=\"{name}\"\nstdout_logfile={self.logs}/{name}.log\n" + "".join(f"{key}={value}\n" for key, value in keys.items())

    def write(self):
        head = f"[supervisord]\npidfile={self.folder}/pid\nlogfile={self.folder}/own.log\nminfds=8192\n[unix_http_server]\nfile={self.folder}/s.sock\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n[supervisorctl]\nserverurl=unix://{self.folder}/s.sock\n"
        apart = [self.app(name, command) + "autostart=false\n" for name, command in self.apart.items()]
        (self.folder / "supervisord.conf").write_text(head + "".join([*self.apps(self.app), *apart]))

    def start(self):
        self.write()
        self.again()

    def first(self):
        return [self.program, "-c", str(self.folder / "supervisord.conf")]

    next = first

    def extra(self, name):
        return self.tell("start", name)

    def pid(self):
        return int((self.folder / "pid").read_text())

    def clear(self):
        for left in ("s.sock", "pid"):
            (self.folder / left).unlink(missing_ok=True)

    def again(self):
        self.clear()
        self.run(*self.next())
        wait_for("supervisord's pid", lambda: (self.folder / "pid").exists())

    def end(self):
        self.run(*self.tell("shutdown"), check=False)

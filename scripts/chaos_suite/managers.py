"""The managers: how each is started, told and found."""

import json
import os
import subprocess
from pathlib import Path

from .world import free_port, wait_for


class Manager:
    """One of them, with services that write to `out/NAME.log`."""

    def __init__(self, folder, services):
        self.folder, self.services, self.marker = folder, services, f"{self.name}-{os.getpid()}"
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


class Mcpm(Manager):
    name = "mcpm"

    def __init__(self, folder, services, program):
        super().__init__(folder, services)
        self.program, self.listen = program, free_port()

    def env(self):
        return {**os.environ, "MCPM_HOME": str(self.folder / "home"), "MCPM_LISTEN": f"127.0.0.1:{self.listen}", "NO_COLOR": "1"}

    def start(self):
        app = lambda name, command: {"name": name, "script": command[0], "args": command[1:], "interpreter": "none", "env": {"CHAOS": self.marker, "CHAOS_NAME": name}, "out_file": str(self.logs / f"{name}.log"), "merge_logs": True}
        (self.folder / "apps.json").write_text(json.dumps({"apps": list(self.apps(app))}))
        self.run(self.program, "start", "--no-wait", "apps.json", check=False)

    def pid(self):
        return int((self.folder / "home/mcpm.pid").read_text())

    def again(self):
        self.run(self.program, "ping")

    def restart_some(self, names):
        return subprocess.Popen([self.program, "restart", *names], env=self.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def restarts(self):
        return {p["name"]: p["pm2_env"]["restart_time"] for p in json.loads(self.run(self.program, "jlist"))}

    def end(self):
        self.run(self.program, "kill", check=False)


class Pm2(Manager):
    name = "PM2"

    def __init__(self, folder, services, program):
        super().__init__(folder, services)
        self.program = program

    def env(self):
        return {**os.environ, "PM2_HOME": str(self.folder / "home"), "NO_COLOR": "1"}

    def start(self):
        app = lambda name, command: {"name": name, "script": command[0], "args": command[1:], "interpreter": "none", "vizion": False, "env": {"CHAOS": self.marker, "CHAOS_NAME": name}, "out_file": str(self.logs / f"{name}.log"), "merge_logs": True}
        (self.folder / "apps.json").write_text(json.dumps({"apps": list(self.apps(app))}))
        self.run(self.program, "start", "apps.json")
        self.run(self.program, "save")

    def pid(self):
        return int((self.folder / "home/pm2.pid").read_text())

    def again(self):
        self.run(self.program, "resurrect")

    def restart_some(self, names):
        return subprocess.Popen([self.program, "restart", *names], env=self.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self):
        self.run(self.program, "kill", check=False)


class Supervisord(Manager):
    name = "supervisord"

    def __init__(self, folder, services, program):
        super().__init__(folder, services)
        self.program = program

    def env(self):
        return dict(os.environ)

    def ctl(self, *args):
        return [str(Path(self.program).with_name("supervisorctl")), "-c", "supervisord.conf", *args]

    def start(self):
        head = f"[supervisord]\npidfile={self.folder}/pid\nlogfile={self.folder}/own.log\nminfds=8192\n[unix_http_server]\nfile={self.folder}/s.sock\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n[supervisorctl]\nserverurl=unix://{self.folder}/s.sock\n"
        app = lambda name, command: f"[program:{name}]\ncommand={' '.join(command)}\nenvironment=CHAOS=\"{self.marker}\",CHAOS_NAME=\"{name}\"\nstdout_logfile={self.logs}/{name}.log\nstdout_logfile_maxbytes=0\nredirect_stderr=true\n"
        (self.folder / "supervisord.conf").write_text(head + "".join(self.apps(app)))
        self.again()

    def pid(self):
        return int((self.folder / "pid").read_text())

    def again(self):
        for left in ("s.sock", "pid"):
            (self.folder / left).unlink(missing_ok=True)
        self.run(self.program, "-c", "supervisord.conf")
        wait_for("supervisord's pid", lambda: (self.folder / "pid").exists())

    def restart_some(self, names):
        return subprocess.Popen(self.ctl("restart", *names), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end(self):
        self.run(*self.ctl("shutdown"), check=False)

"""Death of mcpm's daemon at each failpoint (`src/failpoint.rs`), and what the next one makes of it.

One fleet lives through all of them. In each round the daemon is killed, the next one is started
armed with a failpoint, something is done that reaches it, and a daemon without one is started.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from . import tenants
from .managers import Mcpm
from .world import REPO, alive, await_end, copies, end, environments, faults, free_port, listener, silent, wait_for

REACHED_WITHIN_S = 60
SETTLED_WITHIN_S = 60
HEAD = ["failpoint", "done", "reached", "found wrong"]


def names():
    """All failpoints, as the program knows them."""
    text = (REPO / "src/failpoint.rs").read_text()
    table = text[text.index("pub const NAMES"):text.index("];")]
    return re.findall(r'^    "([a-z]+\.[a-z_]+)",$', table, re.MULTILINE)


def program():
    """Built with the feature, beside the other builds."""
    target = REPO / "target/failpoints"
    subprocess.run(["cargo", "build", "--locked", "--features", "failpoints", "--target-dir", target], cwd=REPO, check=True)
    return str(target / "debug/mcpm")


class Round:
    """What reaches a failpoint."""

    def __init__(self, text, command=(), signal_to=None, count=1, touched=(), dies_before=None, prelude=None, tenant=None):
        self.text = text
        #: Given to mcpm; what it answers when its daemon dies is its own affair.
        self.command = list(command)
        #: A service that gets SIGUSR1, upon which it exits with code 7.
        self.signal_to = signal_to
        #: The failpoint kills when it is reached for the so manieth time.
        self.count = count
        #: Services that need not have kept their process.
        self.touched = set(touched) | ({signal_to} if signal_to else set())
        #: A service that is killed while no daemon lives.
        self.dies_before = dies_before
        if dies_before:
            self.touched.add(dies_before)
        #: A failpoint at which another daemon dies before.
        self.prelude = prelude
        #: What is changed of an instance (`tenants.py`).
        self.tenant = tenant


def round_for(name, fleet):
    """How a failpoint is reached."""
    room, half = name.split(".")[0], max(1, len(fleet.services) // 2)
    some = ["c0", "c1", "sh0"]
    if name == "reload.swapped":
        return Round("reload", ["reload", "c1"], touched=["c1"])
    if name in ("stop.before_kill", "stop.killed"):
        return Round("stop one that ignores it", ["stop", "stubborn"], touched=["stubborn"])
    if name in ("adopt.before_look", "adopt.taken", "adopt.before_pipes"):
        return Round("start of the daemon, one is dead", count=half, dies_before="c1")
    if name.startswith("capture.") and "recover" in name:
        return Round("start after a death within a line", prelude="capture.stored:30")
    if room in ("instance", "user"):
        kind = tenants.kind_of(name)
        return Round(tenants.KINDS[kind], tenant=kind)
    return {
        "spawn": Round("restart three", ["restart", *some], count=2, touched=some),
        "journal": Round("restart three", ["restart", *some], count=3, touched=some),
        "stop": Round("stop", ["stop", "c0"], touched=["c0"]),
        "exit": Round("a service exits", signal_to="coded"),
        "delete": Round("delete", ["delete", "c0"], touched=["c0"]),
        "adopt": Round("start of the daemon, one is dead", dies_before="c1"),
        "capture": Round("output", count=40),
        "append": Round("output", count=40),
        "rotate": Round("a log is full", count=2),
        "give": Round("update", ["update"]),
        "take": Round("update", ["update"]),
        "keys": Round("rotation of the master key", ["keys", "rotate"]),
    }[room]


class Fleet(Mcpm):
    """Services of all kinds; `chatty` has a log that is full every second."""

    def __init__(self, folder, kinds, program):
        services = {"c0": kinds["c"], "c1": kinds["c"], "coded": kinds["c"], "chatty": kinds["c"], "stubborn": kinds["stubborn"]}
        services |= {f"{kind}0": kinds[kind] for kind in ("sh", "py", "js") if kind in kinds}
        super().__init__(folder, services, program)
        self.ports = {"web": free_port(), "demo": free_port()}
        self.python = kinds.get("py", [None])[0]
        self.write_file()

    def write_file(self):
        def counter(name, command):
            app = {"name": name, "script": command[0], "args": command[1:], "interpreter": "none", "out_file": str(self.logs / f"{name}.log"), "merge_logs": True}
            if name == "stubborn":
                app["kill_timeout"] = 300
            if name == "chatty":
                app["log_rotate"] = {"max_size": 400, "retain": 0}
            return app

        apps = list(self.apps(counter))
        key = {"auth": {"type": "api_key", "fields": [{"name": "api_key"}]}}
        inject = {"inject": {"headers": {"X-Key": "{api_key}"}}}
        apps.append({"name": "demo", "script": "mcpm", "args": "bridge demo", "mcp": {"service": "demo", "port": self.ports["demo"], "health": {"http": "/health"}, **key}})
        if self.python:
            apps.append({"name": "web", "script": str(self.folder.parent / "web.py"), "interpreter": self.python, "mcp": {"service": "web", "protocol": "http", "port": self.ports["web"], "health": {"http": "/x"}, "auth": {**key["auth"], **inject}}})
        else:
            del self.ports["web"]
        for app in apps:
            app["env"] = {"CHAOS": self.marker, "CHAOS_NAME": app["name"]}
        self.names = [app["name"] for app in apps]
        (self.folder / "apps.json").write_text(json.dumps({"apps": apps}))

    def start(self):
        self.run(self.program, "start", "apps.json")
        self.run(self.program, "users", "add", "ann")
        self.url = self.run(self.program, "instances", "add", "demo", "--user", "ann", input="a-key\n").strip()

    def listed(self):
        return {p["name"]: p for p in json.loads(self.run(self.program, "jlist"))}

    def is_up(self, process):
        health = (process.get("mcpm") or {}).get("health") or {}
        return process["pm2_env"]["status"] == "online" and health.get("readiness", "ready") == "ready"

    def settled(self):
        """The list once nothing is under way."""
        def quiet():
            listed = self.listed()
            busy = [p for p in listed.values() if p["pm2_env"]["status"] != "stopped" and not self.is_up(p)]
            return not busy and listed
        return wait_for("a quiet list", quiet, SETTLED_WITHIN_S)

    def reached(self, name):
        """How often a daemon has died there."""
        log = self.folder / "home/mcpm.log"
        return log.read_bytes().count(f"failpoint {name}\n".encode()) if log.exists() else 0

    def end_daemon(self):
        try:
            pid = self.pid()
        except (OSError, ValueError):
            return
        # The number may be somebody else's by now.
        if any(found == pid and env.get("MCPM_HOME") == self.env()["MCPM_HOME"] for found, env in environments()):
            end(pid)

    def arm(self, failpoint):
        """Starts the next daemon, which is to die there; it may do so before it answers."""
        subprocess.run([self.program, "ping"], env={**self.env(), "MCPM_FAILPOINT": failpoint}, cwd=self.folder, capture_output=True, timeout=120)

    def command(self, *args):
        return subprocess.Popen([self.program, *args], env=self.env(), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_all(folder, kinds, program, only, told_of):
    """One round for each failpoint; `told_of` hears of each. What is left after all is told last."""
    if b"spawn.before_fork" not in Path(program).read_bytes():
        raise SystemExit(f"{program} was built without `--features failpoints`")
    fleet = Fleet(folder, kinds, program)
    try:
        fleet.start()
        for name in only or names():
            try:
                told_of(one(fleet, name))
            except (TimeoutError, RuntimeError, subprocess.TimeoutExpired) as error:
                told_of({"failpoint": name, "done": round_for(name, fleet).text, "reached": False, "wrong": [str(error)]})
        told_of(leave(fleet))
    finally:
        fleet.end()
        fleet.end_daemon()
        for pid in (pid for pids in copies(fleet.marker).values() for pid in pids):
            end(pid)


def one(fleet, name):
    how = round_for(name, fleet)
    before = fleet.settled()
    wrong = []
    tenant = tenants.Tenant(fleet, how.tenant) if how.tenant else None
    if how.prelude:
        seen = fleet.reached(how.prelude.split(":")[0])
        fleet.end_daemon()
        fleet.arm(how.prelude)
        wait_for(f"a death at {how.prelude}", lambda: fleet.reached(how.prelude.split(":")[0]) > seen, REACHED_WITHIN_S)
    seen = fleet.reached(name)
    fleet.end_daemon()
    if how.dies_before:
        end(before[how.dies_before]["pid"])
    fleet.arm(f"{name}:{how.count}")
    command = fleet.command(*how.command) if how.command else None
    if how.signal_to:
        os.kill(before[how.signal_to]["pid"], signal.SIGUSR1)
    if tenant:
        dies = fleet.pid()
        if tenant.act()[0]:
            wrong.append("it was acknowledged before all was done")
        else:
            await_end(dies)
    try:
        wait_for("the failpoint", lambda: fleet.reached(name) > seen, REACHED_WITHIN_S)
    except TimeoutError:
        wrong.append("it was never reached")
    if command:
        command.wait(120)
    fleet.run(fleet.program, "ping")
    wrong += look(fleet, how, before)
    if tenant:
        wrong += tenant.found(tenants.is_done_at(name))
        tenant.end()
        wrong += tenants.acknowledged(fleet, how.tenant)
    wrong += bring_back(fleet, how)
    return {"failpoint": name, "done": how.text, "reached": fleet.reached(name) > seen, "wrong": wrong}


def look(fleet, how, before):
    """What of the promises is broken, once the next daemon has come to rest."""
    try:
        fleet.settled()
    except TimeoutError:
        states = {name: p["pm2_env"]["status"] for name, p in fleet.listed().items()}
        return [f"it does not come to rest: {states}"]
    wrong = []

    def all_well():  # a run that was told to end needs a moment
        wrong[:] = of_processes(fleet, how, before, fleet.listed())
        return not wrong

    try:
        wait_for("one copy of each", all_well, 10)
    except TimeoutError:
        pass  # `wrong` says what it waited for
    after = fleet.listed()
    for name, port in fleet.ports.items():
        owners, pid = listener(port), after.get(name, {}).get("pid")
        if owners != {pid}:
            wrong.append(f"port {port} of {name} is owned by {owners}, not {pid}")
    running = [fleet.logs / f"{name}.log" for name in fleet.services if name in after and fleet.is_up(after[name])]
    wrong += [f"{name} is heard no more" for name in silent(running)]
    if how.command[:1] == ["keys"]:
        wrong += of_keys(fleet)
    for name in fleet.services:
        lost, bad = faults(fleet.logs / f"{name}.log")
        if lost or bad:
            wrong.append(f"the log of {name}: {lost} lines lost, {bad} doubled or cut")
            # Told once.
            for path in fleet.logs.glob(f"{name}*"):
                path.unlink()
    return wrong


def of_keys(fleet):
    """What was sealed opens, and no rotation is left half done."""
    is_over = lambda: json.loads(fleet.run(fleet.program, "keys", "--json"))["rotation"] is None
    try:
        wait_for("the end of the rotation", is_over, SETTLED_WITHIN_S)
        with urllib.request.urlopen(f"{fleet.url}/health", timeout=30) as answer:
            answer.read()
    except (TimeoutError, OSError) as error:
        yield f"after the rotation: {error}"


def of_processes(fleet, how, before, after):
    found = copies(fleet.marker)
    verb = how.command[0] if how.command else ""
    for name in fleet.names:
        pids = found.get(name, [])
        if name not in after:
            if verb != "delete" or name not in how.touched:
                yield f"{name} is not listed any more"
            if pids:
                yield f"{name} runs as {pids} and is not listed"
            continue
        process, old = after[name], before[name]
        restarts = process["pm2_env"]["restart_time"] - old["pm2_env"]["restart_time"]
        if process["pm2_env"]["status"] == "stopped":
            if verb not in ("stop", "delete") or name not in how.touched:
                yield f"{name} is stopped, and nobody wanted that"
            if pids:
                yield f"{name} runs as {pids} and is stopped"
            continue
        if pids != [process["pid"]]:
            yield f"{name} runs as {pids}, and its pid is {process['pid']}"
        if name not in how.touched:
            if process["pid"] != old["pid"]:
                yield f"{name} was {old['pid']} and is {process['pid']}"
            if restarts:
                yield f"{name} counts {restarts} restarts that it had not"
            continue
        # Whether it was counted before the daemon died nobody promises; once is the most.
        most = 1 if process["pid"] != old["pid"] or verb in ("restart", "reload") else 0
        least = 1 if name in (how.dies_before, how.signal_to) else 0
        if not least <= restarts <= most:
            yield f"{name} counts {restarts} restarts, not {least} to {most}"
        code = process["pm2_env"].get("exit_code")
        if name == how.signal_to and code not in (7, None):
            yield f"{name} exited with 7, and {code} is told"


def bring_back(fleet, how):
    """Does once more, with a daemon that lives, what the other one died of; then all run again."""
    verb = how.command[0] if how.command else ""
    for name in sorted(how.touched):
        listed = fleet.listed()
        if verb in ("stop", "delete") and name in listed:
            fleet.run(fleet.program, verb, name)
            if copies(fleet.marker).get(name):
                yield f"{name} runs after `{verb}`"
        if verb == "stop":
            fleet.run(fleet.program, "restart", name)
        if verb == "delete":
            fleet.run(fleet.program, "start", "apps.json", "--only", name)
        if name == how.signal_to:
            # This run is the daemon's own child: its exit code can be known.
            pid = listed[name]["pid"]
            os.kill(pid, signal.SIGUSR1)
            wait_for("the next run", lambda: fleet.listed()[name]["pid"] not in (0, pid), SETTLED_WITHIN_S)
            code = fleet.listed()[name]["pm2_env"].get("exit_code")
            if code != 7:
                yield f"{name} exited with 7, and {code} is told"


def leave(fleet):
    """`delete all` leaves nothing."""
    fleet.run(fleet.program, "delete", "all")
    home = fleet.env()["MCPM_HOME"]
    wrong = [f"{name} still runs as {pids}" for name, pids in copies(fleet.marker).items() if pids]
    left = [p.name for folder in ("run", "pids") for p in Path(home, folder).glob("*") if p.suffix in (".in", ".out", ".err", ".pid")]
    if left:
        wrong.append(f"files are left: {', '.join(sorted(left)[:8])}")
    fleet.end()
    time.sleep(0.1)
    ours = [pid for pid, env in environments() if env.get("PM2_HOME") == home and "MCPM_PROCESS" in env and alive(pid)]
    if ours:
        wrong.append(f"processes are left: {ours}")
    return {"failpoint": "(`delete all`)", "done": "at the end", "reached": True, "wrong": wrong}


def row(told):
    return [f"`{told['failpoint']}`", told["done"], "yes" if told["reached"] else "**no**", "; ".join(told["wrong"]) or "nothing"]

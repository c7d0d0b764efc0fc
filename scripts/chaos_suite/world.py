"""What the suite sees of a machine: processes, ports and the lines in log files."""

import gzip
import os
import random
import re
import signal
import socket
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 120


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_block(count):
    """The first of so many free ports in a row, below the range of outgoing connections."""
    starts = list(range(20000, 32000 - count, count))
    for start in random.sample(starts, len(starts)):
        try:
            for port in range(start, start + count):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
            return start
        except OSError:
            pass
    raise SystemExit(f"there are no {count} free ports in a row")


def timed(argv, env):
    """Milliseconds from before the spawn to after the exit, and what it printed.

    posix_spawn and a blocking wait: as little of Python as possible lies in between."""
    out = os.memfd_create("out")
    null = os.open("/dev/null", os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((null, 0), (out, 1), (out, 2))]
    try:
        began = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, env, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        took = (time.perf_counter() - began) * 1000
        text = os.pread(out, os.fstat(out).st_size, 0).decode(errors="replace")
    finally:
        os.close(out)
        os.close(null)
    if status:
        raise RuntimeError(f"{' '.join(argv)}: {text[-800:]}")
    return took, text


def stat(pid):
    """Its state, parent and so on: the fields of /proc/PID/stat from the third one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return None


def alive(pid):
    fields = stat(pid)
    return bool(fields) and fields[0] != "Z"


def threads(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def end(pid):
    """SIGKILL, and its last thread is gone: until then its socket takes connections."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await_end(pid)


def await_end(pid):
    """Until the last thread of a process that was killed is gone."""
    wait_for("the end of a killed process", lambda: not alive(pid) and len(threads(pid)) <= 1)


def wait_for(what, ask, seconds=PATIENCE_S):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = ask()
        if found:
            return found
        time.sleep(0.02)
    raise TimeoutError(f"never came: {what}")


def environments():
    """Of each process that may be looked at, by pid."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            yield int(entry), dict(v.split("=", 1) for v in text.split("\0") if "=" in v)


def copies(marker):
    """The processes of each service that carry this marker, without those that they have started."""
    found = {}
    for pid, env in environments():
        if env.get("CHAOS") == marker and "CHAOS_NAME" in env and alive(pid):
            fields = stat(pid)
            found.setdefault(env["CHAOS_NAME"], {})[pid] = int(fields[1]) if fields else 0
    return {name: [p for p, parent in pids.items() if parent not in pids] for name, pids in found.items()}


def listener(port):
    """The processes that listen on this port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    owners = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                links = {os.readlink(fd.path) for fd in os.scandir(f"/proc/{entry}/fd")}
            except OSError:
                continue
            if links & inodes:
                owners.add(int(entry))
    return owners


def log_files(log):
    """A log and what was put aside of it, oldest first; of one that is there twice the plain form."""
    aside = re.compile(re.escape(log.stem) + r"__(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?" + re.escape(log.suffix) + r"(\.gz)?")
    found = {}
    for path in log.parent.iterdir():
        match = aside.fullmatch(path.name)
        if match:
            mark = (match[1], int(match[2] or 1))
            if not match[3] or mark not in found:
                found[mark] = path
    return [path for _, path in sorted(found.items())] + [log]


def text_of(log):
    """All that was written to a log. Files may be put aside and compressed while they are read."""
    for _ in range(50):
        try:
            files, begun = log_files(log), log.stat().st_ino
            pieces = [gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes() for path in files]
            if (log_files(log), log.stat().st_ino) == (files, begun):
                return b"".join(pieces)
        except (FileNotFoundError, EOFError):
            if not log_files(log)[:-1] and not log.exists():
                return b""
        time.sleep(0.05)
    raise TimeoutError(f"{log} changes too fast to be read")


def faults(log):
    """Lines `PID NUMBER` that are lost, and lines that are doubled, cut or something else."""
    lost = wrong = 0
    next_of = {}
    for line in text_of(log).split(b"\n")[:-1]:
        words = line.split(b" ")
        if len(words) != 2 or not all(word.isdigit() for word in words):
            wrong += 1
            continue
        pid, number = words[0], int(words[1])
        expected = next_of.get(pid, 0)
        if number < expected:
            wrong += 1
        else:
            lost += number - expected
            next_of[pid] = number + 1
    return lost, wrong


def silent(logs, seconds=20):
    """Those of the logs that do not grow."""
    sizes = {log: len(text_of(log)) for log in logs}
    quiet = list(logs)

    def all_speak():
        quiet[:] = [log for log in quiet if len(text_of(log)) <= sizes[log]]
        return not quiet

    try:
        wait_for("new lines", all_speak, seconds)
    except TimeoutError:
        pass
    return [log.stem for log in quiet]


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if values else float("nan")

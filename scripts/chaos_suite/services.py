"""The services: programs that write `PID NUMBER` lines, and two that listen on a port."""

import shutil
import subprocess
import sys

COUNTERS = {  # each writes its pid and 0, 1, 2, … until it is ended
    "count.sh": ("/bin/sh", "i=0; trap 'exit 0' INT TERM\nwhile :; do echo $$ $i; i=$((i+1)); sleep 0.05; done\n"),
    "count.py": ("python3", "import os, time\ni = 0\nwhile True:\n    print(os.getpid(), i, flush=True)\n    i += 1\n    time.sleep(0.03)\n"),
    "count.js": ("node", "let i = 0;\nsetInterval(() => console.log(process.pid + ' ' + i++), 30);\n"),
}
COUNT_C = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void end(int s) { _exit(0); }
static void seven(int s) { _exit(7); }
int main(int argc, char **argv) {
    struct timespec pause = {0, 20000000L + (getpid() % 50) * 1000000L};
    int stubborn = argc > 1;
    signal(SIGINT, stubborn ? SIG_IGN : end); signal(SIGTERM, stubborn ? SIG_IGN : end); signal(SIGUSR1, seven);
    for (long i = 0;; i++) { char line[48]; int n = sprintf(line, "%d %ld\n", getpid(), i); if (write(1, line, n) < n) return 1; nanosleep(&pause, 0); }
}
"""
WEB = r"""
import http.server, os, threading, time
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.endswith("/stream"):
            self.send_response(200); self.send_header("Content-Type", "text/event-stream"); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for i in range(40):
                text = f"data: {i}\n\n"; self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode()); time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n"); return
        body = self.headers.get("X-Key", "ok").encode(); self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Web).serve_forever()
"""


def programs(folder):
    """Writes and compiles them: the command of each kind, by kind. What can't be had is said."""
    (folder / "count.c").write_text(COUNT_C)
    subprocess.run(["cc", "-O2", "-o", folder / "count", folder / "count.c"], check=True)
    found = {"c": [str(folder / "count")], "stubborn": [str(folder / "count"), "stubborn"]}
    for file, (program, text) in COUNTERS.items():
        path = shutil.which(program)
        if not path:
            print(f"skipped: services of {program}, which is not here", file=sys.stderr)
            continue
        (folder / file).write_text(text)
        found[file.rsplit(".", 1)[1]] = [path, str(folder / file)]
    (folder / "web.py").write_text(WEB)
    return found


def fleet(kinds, count):
    """Commands by service. Most are compiled, so that what is measured is the manager."""
    mixed = [kinds["c"]] * 7 + [kinds[kind] for kind in ("sh", "py", "js") if kind in kinds]
    return {f"s{i:03}": mixed[i % len(mixed)] if i < 60 else kinds["c"] for i in range(count)}

"""The small C program of the benches, and the board: shared memory in which each copy of it says when it began and ended."""

import collections
import mmap
import os
import platform
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct record { uint32_t service, pid; uint64_t began, asked, ended, wrote, spare[3]; };
static struct record *mine;
static volatile sig_atomic_t asked;
static int prompt;

static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static void end(void) { __atomic_store_n(&mine->ended, now(), __ATOMIC_RELEASE); _exit(0); }
static void ask(int s) { __atomic_store_n(&mine->asked, now(), __ATOMIC_RELEASE); asked = 1; if (prompt) end(); }

static void claim(const char *path, int service, uint64_t began) {
    struct stat size;
    int board = open(path, O_RDWR | O_CLOEXEC);
    if (board < 0 || fstat(board, &size)) _exit(2);
    char *all = mmap(0, size.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, board, 0);
    if (all == MAP_FAILED) _exit(2);
    close(board);
    uint64_t index = __atomic_fetch_add((uint64_t *)all, 1, __ATOMIC_ACQ_REL);
    if ((index + 2) * sizeof *mine > (uint64_t)size.st_size) _exit(3);
    mine = (struct record *)all + 1 + index;
    mine->service = service;
    mine->pid = getpid();
    __atomic_store_n(&mine->began, began, __ATOMIC_RELEASE);
}

static void count(void) { /* `PID NUMBER` lines, 14 to 50 a second */
    struct timespec pause = {0, 20000000L + (getpid() % 50) * 1000000L};
    for (long i = 0; !asked; i++) {
        char line[48];
        int length = sprintf(line, "%d %ld\n", getpid(), i), wrote = write(1, line, length);
        if (wrote > 0) mine->wrote += wrote;
        if (wrote < length) _exit(1);
        nanosleep(&pause, 0);
    }
}

static void http(int port) { /* one request on a connection, as probes are */
    const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {5, 0};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) { perror("listen"); _exit(4); }
    for (;;) {
        char request[4096];
        size_t used = 0;
        int peer = accept(listener, 0, 0);
        if (peer < 0) continue;
        setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        while (used < sizeof request) {
            ssize_t got = recv(peer, request + used, sizeof request - used, 0);
            if (got <= 0) break;
            used += got;
            if (memmem(request, used, "\r\n\r\n", 4)) { send(peer, answer, strlen(answer), MSG_NOSIGNAL); break; }
        }
        close(peer);
    }
}

/* The first instructions of the process, where a machine is known: what libc does before main() is the program's own start,
   and takes half a millisecond where a hypervisor answers each CPUID. */
volatile struct timespec first;
#ifdef __x86_64__
__asm__(".globl first_instruction\n"
        "first_instruction:\n"
        "push %rdx\n"
        "mov $228, %eax\n" /* clock_gettime(CLOCK_MONOTONIC, &first) */
        "mov $1, %edi\n"
        "lea first(%rip), %rsi\n"
        "syscall\n"
        "pop %rdx\n"
        "jmp _start\n");
#endif

int main(int argc, char **argv) { /* BOARD NUMBER MODE */
    uint64_t began = first.tv_sec ? first.tv_sec * 1000000000ull + first.tv_nsec : now();
    if (argc < 4) return 2;
    claim(argv[1], atoi(argv[2]), began);
    prompt = !strcmp(argv[3], "idle") || !strcmp(argv[3], "http");
    signal(SIGINT, ask);
    signal(SIGTERM, ask);
    if (!strcmp(argv[3], "count")) count();
    if (!strcmp(argv[3], "http")) http(atoi(getenv("PORT")));
    while (prompt) pause();
    while (!asked) usleep(100000);
    if (!strcmp(argv[3], "slow")) for (uint64_t until = now() + 6000000000ull; now() < until;) usleep(100000);
    end();
}
"""

PLACES = 1 << 16
RECORD = struct.Struct("<IIQQQQ24x")
Record = collections.namedtuple("Record", "service pid began asked ended wrote")


def compile_program(folder):
    """The program, and whether it is a static one: that begins sooner, so that less of it is measured."""
    program = folder / "bench-service"
    first = ["-Wl,-e,first_instruction"] if platform.machine() == "x86_64" else []
    for static in (["-static"], []):
        line = ["cc", "-O2", "-w", *static, *first, "-o", program, "-x", "c", "-"]
        told = subprocess.run(line, input=PROGRAM, text=True, capture_output=True)
        if not told.returncode:
            return program, bool(static)
    raise SystemExit(f"cc cannot compile the service: {told.stderr}")


class Board:
    """What the copies of the program say. Times are of CLOCK_MONOTONIC, in ns."""

    def __init__(self, folder):
        # In memory: on a disk the kernel may hold back a write while it writes the page out.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
        self.folder = Path(tempfile.mkdtemp(prefix="mcpm-bench-", dir=place))
        self.path = self.folder / "board"
        with self.path.open("w+b") as file:
            file.truncate((PLACES + 1) * RECORD.size)
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def close(self):
        self.memory.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def records(self):
        count = min(struct.unpack_from("<Q", self.memory)[0], PLACES)
        found = map(Record._make, RECORD.iter_unpack(self.memory[RECORD.size:(count + 1) * RECORD.size]))
        return [record for record in found if record.began]

    def newest(self):
        """The last copy of each service, by its number."""
        return {record.service: record for record in sorted(self.records(), key=lambda record: record.began)}

    def wait(self, what, enough, seconds):
        """What `enough` finds in the newest records. Seldom looked at: nothing is measured by when it is seen."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = enough(self.newest())
            if found:
                return found
            time.sleep(0.003)
        raise TimeoutError(f"never came: {what}")

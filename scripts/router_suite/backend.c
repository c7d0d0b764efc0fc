/* The service behind the proxies of scripts/bench-router: one thread, HTTP/1.1, on 127.0.0.1:$PORT.
 *   /sse       text/event-stream, one event, then held open
 *   /big       1 MiB
 *   /head      the head of the request, as the body
 *   POST /mcp  JSON-RPC: `initialize` gets a session, a notification 202, the rest a result of 200 bytes
 *   else       200 bytes of JSON, after the body of the request was read and thrown away
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 65536, BUFFER = 16384, MIB = 1 << 20 };
struct conn { size_t used; long skip; const char *out; size_t left; char buf[BUFFER]; };
static struct conn *conns[CONNECTIONS];
static char small[512], big[MIB + 256], sink[65536];
static size_t small_len, big_len;
static int queue;

/* 0, or -1 when the connection is dead; what does not fit waits for EPOLLOUT. */
static int say(int fd, struct conn *c, const char *p, size_t n) {
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EAGAIN) {
            struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
            c->out = p; c->left = n;
            return epoll_ctl(queue, EPOLL_CTL_MOD, fd, &e);
        }
        if (w < 0) return -1;
        p += w; n -= w;
    }
    return 0;
}

static int json(int fd, struct conn *c, const char *more, const char *body) {
    char text[1024];
    int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s", more, strlen(body), body);
    return write(fd, text, n) == n ? 0 : -1;
}

static int rpc(int fd, struct conn *c, const char *body) {
    static long sessions;
    static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    char id[128], more[64], answer[512];
    const char *at = strstr(body, "\"id\":");
    if (!at) return say(fd, c, accepted, sizeof accepted - 1);
    at += 5 + strspn(at + 5, " ");
    size_t n = *at == '"' ? strcspn(at + 1, "\"") + 2 : strcspn(at, ",} ");
    snprintf(id, sizeof id, "%.*s", (int)n, at);
    if (strstr(body, "\"initialize\"")) {
        snprintf(more, sizeof more, "Mcp-Session-Id: session-%d-%ld\r\n", getpid(), ++sessions);
        snprintf(answer, sizeof answer, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"bench\",\"version\":\"1\"}}}", id);
        return json(fd, c, more, answer);
    }
    int k = snprintf(answer, sizeof answer, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"", id);
    while (k < 200) answer[k++] = 'a';
    strcpy(answer + k, "\"}]}}");
    return json(fd, c, "", answer);
}

/* One whole request, if it is there: 1 when one was answered, 0 when more is needed, -1 when all is over. */
static int serve(int fd, struct conn *c) {
    static const char sse[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndata: hi\n\n\r\n";
    c->buf[c->used] = 0;
    char *end = memmem(c->buf, c->used, "\r\n\r\n", 4);
    if (!end) return c->used < BUFFER - 1 ? 0 : -1;
    size_t head = end + 4 - c->buf;
    char *path = memchr(c->buf, ' ', head);
    if (!path++) return -1;
    *end = 0;
    char *told = strcasestr(c->buf, "\r\ncontent-length:");
    int chunked = strcasestr(c->buf, "\r\ntransfer-encoding:") != 0;
    *end = '\r';
    long length = told ? atol(told + 17) : 0;
    if (chunked) return -1;
    int is_rpc = c->buf[0] == 'P' && !strncmp(path, "/mcp", 4), dead;
    size_t whole = head + length;
    if (is_rpc) {
        if (whole >= BUFFER) return -1;
        if (c->used < whole) return 0;
        char after = c->buf[whole];
        c->buf[whole] = 0;
        dead = rpc(fd, c, c->buf + head);
        c->buf[whole] = after;
    } else if (length) {
        if (c->used < whole) { c->skip = whole - c->used; c->used = 0; return 1; }
        dead = say(fd, c, small, small_len);
    } else if (!strncmp(path, "/head", 5)) {
        char text[BUFFER + 128];
        int n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%.*s", head, (int)head, c->buf);
        dead = write(fd, text, n) != n;
    } else if (!strncmp(path, "/sse", 4)) dead = say(fd, c, sse, sizeof sse - 1);
    else if (!strncmp(path, "/big", 4)) dead = say(fd, c, big, big_len);
    else dead = say(fd, c, small, small_len);
    memmove(c->buf, c->buf + whole, c->used - whole);
    c->used -= whole;
    return dead ? -1 : 1;
}

static int go_on(int fd, struct conn *c, int writable) {
    if (writable && c->out) {
        const char *p = c->out;
        c->out = 0;
        if (say(fd, c, p, c->left)) return -1;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (!c->out) epoll_ctl(queue, EPOLL_CTL_MOD, fd, &e);
    }
    while (!c->out) {
        if (!c->skip && c->used) {
            int served = serve(fd, c);
            if (served < 0) return -1;
            if (served) continue;
        }
        char *to = c->skip ? sink : c->buf + c->used;
        size_t room = c->skip ? sizeof sink : BUFFER - 1 - c->used;
        if (c->skip && (long)room > c->skip) room = c->skip;
        ssize_t r = read(fd, to, room);
        if (r < 0 && errno == EAGAIN) return 0;
        if (r <= 0) return -1;
        if (!c->skip) c->used += r;
        else if (!(c->skip -= r) && say(fd, c, small, small_len)) return -1;
    }
    return 0;
}

int main(void) {
    int one = 1, port = atoi(getenv("PORT") ? getenv("PORT") : "0");
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    char body[256];
    memset(body, 'a', sizeof body);
    memcpy(body, "{\"ok\":true,\"pad\":\"", 18);
    strcpy(body + 198, "\"}");
    small_len = sprintf(small, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n%s", body);
    big_len = sprintf(big, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", MIB);
    memset(big + big_len, 'b', MIB);
    big_len += MIB;
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(door, (void *)&at, sizeof at) || listen(door, 4096)) { perror("listen"); return 1; }
    queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = door}, evs[256];
    epoll_ctl(queue, EPOLL_CTL_ADD, door, &ev);
    for (;;) {
        int n = epoll_wait(queue, evs, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;
            if (fd != door) {
                if (go_on(fd, conns[fd], evs[i].events & EPOLLOUT)) { close(fd); free(conns[fd]); conns[fd] = 0; }
                continue;
            }
            int c;
            while ((c = accept4(door, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                if (c >= CONNECTIONS) { close(c); continue; }
                setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                conns[c] = calloc(1, sizeof *conns[c]);
                ev.events = EPOLLIN; ev.data.fd = c;
                epoll_ctl(queue, EPOLL_CTL_ADD, c, &ev);
            }
        }
    }
}

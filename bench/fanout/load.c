/*
 * The load of the fan-out benchmark: N WebSocket viewers, and the source of the lines, in one epoll loop.
 *
 *     load --port P --path /x --viewers N --lines L [--header "Name: value"]... [--feed-port F] [--feed-form lines|post]
 *          [--feed-path /pub] [--posts 1] [--rate R] [--size 200] [--sample K] [--go FILE] [--timeout S] [--hold]
 *
 * It opens N viewers, and when all are open begins to feed L lines: as fast as they are taken, or R a second. A line is
 * `#` + its number (8 digits) + blank + CLOCK_MONOTONIC in nanoseconds (19 digits) + blank + filling, SIZE bytes in all,
 * then `\n`. With --feed-form post each line is the body of one HTTP POST, with at most --posts of them unanswered. Without --feed-port
 * somebody else makes the lines (a real build): --go names a file that is created when all viewers are open.
 *
 * Every viewer's frames are walked by their lengths and every `#` in their payloads is counted, by the vector: that is far
 * cheaper than what a server does for it. Of K viewers (--sample, spread evenly; 0: all) each line's number is checked
 * against the one before, and its time against the clock. Text besides the lines must hold no `#`.
 *
 * With --hold it prints `{"open": N}` when all are open, feeds nothing, and stays until it is killed.
 *
 * The last line of the output is one JSON object:
 *   viewers, lines (asked), complete (every viewer got each line once), fewest, most (lines of a viewer), disordered (lines
 *   out of turn, of the sampled), delivered, frames, bytes, seconds (from the first line's making to the last's
 *   arrival), per_second
 *   (delivered lines), latency_us {samples, p50, p99, max}, cpu (our share of a core), closed (viewers lost)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MARK = '#', TOKEN = 29, OPENING = 32, BUFFER = 256 << 10 };

typedef struct {
    int fd;
    int open;        /* 0: the handshake goes on */
    int sampled;
    int control;     /* bytes of a control frame's payload in `small` */
    int have;        /* bytes of a header or token in `head`, `token` */
    int token_have;
    uint8_t opcode;
    uint8_t head[14];
    uint8_t small[125];
    char token[TOKEN];
    uint64_t left;   /* of the frame's payload */
    uint64_t lines;
    uint64_t next;   /* the line that is to come; of the sampled */
    char answer[1024];
    int answer_have;
} Viewer;

static struct {
    int port, viewers, feed_port, size, sample, hold;
    const char *path, *feed_path, *go;
    uint64_t lines;
    double rate, timeout;
    int post;
    uint64_t posts;
    char headers[4096];
} options = {.size = 200, .sample = 2, .timeout = 60, .path = "/", .feed_path = "/pub", .posts = 1};

static int poller;
static Viewer *viewers;
static int opened, opening, started, closed_count;
static uint64_t frames, bytes, disordered, first_at, last_at, done_viewers;
static uint32_t *latencies;
static size_t latency_count, latency_room;

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + at.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* -- what comes ---------------------------------------------------------------------------------------------------- */

typedef uint8_t Vector __attribute__((vector_size(32)));

static uint64_t marks(const uint8_t *data, size_t size) {
    uint64_t found = 0;
    while (size >= sizeof(Vector)) {
        Vector sum = {0};
        size_t blocks = size / sizeof(Vector);
        if (blocks > 255) blocks = 255;
        for (size_t i = 0; i < blocks; i++) {
            Vector block;
            memcpy(&block, data + i * sizeof(Vector), sizeof(Vector));
            sum -= (Vector)(block == MARK);
        }
        for (size_t i = 0; i < sizeof(Vector); i++) found += sum[i];
        data += blocks * sizeof(Vector);
        size -= blocks * sizeof(Vector);
    }
    for (size_t i = 0; i < size; i++) found += data[i] == MARK;
    return found;
}

static void look_at(Viewer *viewer, uint64_t at) {
    char number[9];
    memcpy(number, viewer->token + 1, 8);
    number[8] = 0;
    uint64_t seq = strtoull(number, NULL, 10), sent = 0;
    for (int i = 10; i < TOKEN; i++) sent = sent * 10 + (uint64_t)(viewer->token[i] - '0');
    if (seq != viewer->next) disordered++;
    if (seq == 1) first_at = sent;
    viewer->next = seq + 1;
    if (latency_count == latency_room) {
        latency_room = latency_room ? 2 * latency_room : 1 << 16;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) fail("memory");
    }
    uint64_t delay = (at - sent) / 100; /* tenths of a microsecond */
    latencies[latency_count++] = delay > UINT32_MAX ? UINT32_MAX : (uint32_t)delay;
}

static void payload(Viewer *viewer, const uint8_t *data, size_t size, uint64_t at) {
    uint64_t before = viewer->lines;
    if (!viewer->sampled) {
        viewer->lines += marks(data, size);
    } else {
        while (size) {
            if (!viewer->token_have) {
                const uint8_t *mark = memchr(data, MARK, size);
                if (!mark) break;
                size -= mark - data;
                data = mark;
                viewer->lines++;
            }
            size_t part = TOKEN - viewer->token_have;
            if (part > size) part = size;
            memcpy(viewer->token + viewer->token_have, data, part);
            viewer->token_have += part;
            data += part;
            size -= part;
            if (viewer->token_have == TOKEN) {
                look_at(viewer, at);
                viewer->token_have = 0;
            }
        }
    }
    if (viewer->lines != before) {
        last_at = at;
        if (before < options.lines && viewer->lines >= options.lines) done_viewers++;
    }
}

static void send_pong(Viewer *viewer) {
    uint8_t frame[6 + 125] = {0x8a, 0x80 | (uint8_t)viewer->control};
    memcpy(frame + 6, viewer->small, viewer->control);
    if (write(viewer->fd, frame, 6 + viewer->control) < 0 && errno != EAGAIN) fail("pong");
}

static void walk(Viewer *viewer, const uint8_t *data, size_t size, uint64_t at) {
    bytes += size;
    while (size) {
        if (viewer->left) {
            size_t part = size < viewer->left ? size : viewer->left;
            if (viewer->opcode < 8) {
                payload(viewer, data, part, at);
            } else {
                memcpy(viewer->small + viewer->control, data, part);
                viewer->control += part;
            }
            viewer->left -= part;
            data += part;
            size -= part;
            if (!viewer->left && viewer->opcode == 9) send_pong(viewer);
            continue;
        }
        uint8_t *head = viewer->head;
        head[viewer->have++] = *data++;
        size--;
        if (viewer->have < 2) continue;
        int length = head[1] & 0x7f, need = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (viewer->have < need) continue;
        uint64_t left = length;
        if (need > 2) {
            left = 0;
            for (int i = 2; i < need; i++) left = left << 8 | head[i];
        }
        viewer->opcode = head[0] & 0x0f;
        viewer->left = left;
        viewer->have = viewer->control = 0;
        if (viewer->opcode < 8) frames++;
        else if (!left && viewer->opcode == 9) send_pong(viewer);
    }
}

/* -- the viewers --------------------------------------------------------------------------------------------------- */

static int dial(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) fail("connect");
    return fd;
}

static void watch(int fd, uint32_t events, void *who, int how) {
    struct epoll_event event = {.events = events, .data = {.ptr = who}};
    if (epoll_ctl(poller, how, fd, &event) < 0) fail("epoll_ctl");
}

static void open_more(void) {
    while (started < options.viewers && opening < OPENING) {
        Viewer *viewer = &viewers[started++];
        viewer->fd = dial(options.port);
        viewer->next = 1;
        watch(viewer->fd, EPOLLOUT, viewer, EPOLL_CTL_ADD);
        opening++;
    }
}

static void ask(Viewer *viewer) {
    char request[8192];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                        options.path, options.port, options.headers);
    if (write(viewer->fd, request, size) != size) fail("the handshake");
    watch(viewer->fd, EPOLLIN, viewer, EPOLL_CTL_MOD);
}

static void lost(Viewer *viewer) {
    if (!viewer->open) {
        fprintf(stderr, "load: the server refused a viewer: %.*s\n", viewer->answer_have, viewer->answer);
        exit(1);
    }
    epoll_ctl(poller, EPOLL_CTL_DEL, viewer->fd, NULL);
    close(viewer->fd);
    viewer->fd = -1;
    closed_count++;
}

static void readable(Viewer *viewer) {
    static uint8_t buffer[BUFFER];
    ssize_t got = recv(viewer->fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        lost(viewer);
        return;
    }
    uint64_t at = now();
    uint8_t *data = buffer;
    if (!viewer->open) {
        while (got) {
            if (viewer->answer_have == sizeof viewer->answer) lost(viewer);
            char *answer = viewer->answer;
            answer[viewer->answer_have++] = *data++;
            got--;
            int n = viewer->answer_have;
            if (n >= 4 && !memcmp(answer + n - 4, "\r\n\r\n", 4)) {
                if (memcmp(answer + 8, " 101 ", 5)) lost(viewer);
                viewer->open = 1;
                opened++;
                opening--;
                open_more();
                break;
            }
        }
    }
    if (got) walk(viewer, data, got, at);
}

/* -- the source ---------------------------------------------------------------------------------------------------- */

static int feed_fd = -1, tick_fd = -1, feed_is_watched;
static uint64_t fed, due;        /* lines written, and lines that may be */
static uint64_t unanswered;
static char *waiting;            /* what the socket hasn't taken */
static size_t waiting_size, waiting_at, waiting_room;
static char feed_tag, tick_tag;

static void digits(char *to, int count, uint64_t value) {
    while (count--) {
        to[count] = '0' + value % 10;
        value /= 10;
    }
}

static void put_line(void) {
    char *to = waiting + waiting_size;
    if (options.post)
        to += sprintf(to, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n", options.feed_path, options.size);
    to[0] = MARK;
    digits(to + 1, 8, ++fed);
    to[9] = ' ';
    digits(to + 10, 19, now());
    to[29] = ' ';
    memset(to + 30, 'x', options.size - 30);
    to += options.size;
    if (options.post) unanswered++;
    else *to++ = '\n';
    waiting_size = to - waiting;
}

static void feed(void) {
    for (;;) {
        while (waiting_at < waiting_size) {
            ssize_t sent = send(feed_fd, waiting + waiting_at, waiting_size - waiting_at, MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                if (!feed_is_watched) watch(feed_fd, EPOLLIN | EPOLLOUT, &feed_tag, EPOLL_CTL_MOD);
                feed_is_watched = 1;
                return;
            }
            if (sent < 0) fail("feeding");
            waiting_at += sent;
        }
        waiting_at = waiting_size = 0;
        while (fed < due && waiting_size + options.size + 256 < waiting_room && (!options.post || unanswered < options.posts))
            put_line();
        if (!waiting_size) break;
        if (options.rate == 0 && !options.post) {
            /* One block a turn, so that the viewers are read meanwhile. */
            if (!feed_is_watched) watch(feed_fd, EPOLLIN | EPOLLOUT, &feed_tag, EPOLL_CTL_MOD);
            feed_is_watched = 1;
            ssize_t sent = send(feed_fd, waiting, waiting_size, MSG_NOSIGNAL);
            if (sent > 0) waiting_at = sent;
            return;
        }
    }
    if (feed_is_watched) watch(feed_fd, EPOLLIN, &feed_tag, EPOLL_CTL_MOD);
    feed_is_watched = 0;
}

static void feed_readable(void) {
    /* Answers to posts: each has its status line, which nothing else in an answer looks like. */
    static const char wanted[] = "HTTP/1.1 2";
    static size_t matched;
    char data[16384];
    ssize_t got = recv(feed_fd, data, sizeof data, 0);
    if (got == 0) {
        errno = 0;
        fail("the server closed the feed");
    }
    for (ssize_t i = 0; i < got; i++) {
        matched = data[i] == wanted[matched] ? matched + 1 : data[i] == wanted[0];
        if (matched == sizeof wanted - 1) {
            matched = 0;
            if (unanswered) unanswered--;
        }
    }
    if (options.post) feed();
}

static void begin(void) {
    if (options.go) {
        int fd = open(options.go, O_CREAT | O_WRONLY, 0600);
        if (fd < 0) fail(options.go);
        close(fd);
    }
    if (!options.feed_port) return;
    feed_fd = dial(options.feed_port);
    waiting_room = (64 << 10) + options.size;
    waiting = malloc(waiting_room);
    due = options.rate ? 0 : options.lines;
    feed_is_watched = !options.rate;
    watch(feed_fd, EPOLLIN | (options.rate ? 0 : EPOLLOUT), &feed_tag, EPOLL_CTL_ADD);
    if (options.rate) {
        long each = (long)(1e9 / options.rate);
        tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        struct itimerspec when = {{each / 1000000000, each % 1000000000}, {0, 200000000}};
        timerfd_settime(tick_fd, 0, &when, NULL);
        watch(tick_fd, EPOLLIN, &tick_tag, EPOLL_CTL_ADD);
    }
}

/* -- the whole ----------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double at_share(double share) {
    return latency_count ? latencies[(size_t)(share * (double)(latency_count - 1))] / 10.0 : 0;
}

static void report(double cpu) {
    uint64_t fewest = UINT64_MAX, most = 0, delivered = 0;
    for (int i = 0; i < options.viewers; i++) {
        uint64_t lines = viewers[i].lines;
        delivered += lines;
        if (lines < fewest) fewest = lines;
        if (lines > most) most = lines;
    }
    qsort(latencies, latency_count, sizeof *latencies, ascending);
    double seconds = (double)(last_at - first_at) / 1e9;
    printf("{\"viewers\": %d, \"lines\": %llu, \"complete\": %s, \"fewest\": %llu, \"most\": %llu, \"disordered\": %llu, "
           "\"delivered\": %llu, \"frames\": %llu, \"bytes\": %llu, \"seconds\": %.4f, \"per_second\": %.0f, "
           "\"latency_us\": {\"samples\": %zu, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}, \"cpu\": %.2f, \"closed\": %d}\n",
           options.viewers, (unsigned long long)options.lines,
           fewest == options.lines && most == options.lines && !disordered ? "true" : "false", (unsigned long long)fewest,
           (unsigned long long)most, (unsigned long long)disordered, (unsigned long long)delivered,
           (unsigned long long)frames, (unsigned long long)bytes, seconds, seconds > 0 ? delivered / seconds : 0,
           latency_count, at_share(0.5), at_share(0.99), at_share(1), cpu, closed_count);
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void parse(int count, char **words) {
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        if (!strcmp(word, "--hold")) {
            options.hold = 1;
            continue;
        }
        if (i + 1 == count) {
            fprintf(stderr, "load: %s needs a value\n", word);
            exit(2);
        }
        const char *value = words[++i];
        if (!strcmp(word, "--port")) options.port = atoi(value);
        else if (!strcmp(word, "--path")) options.path = value;
        else if (!strcmp(word, "--viewers")) options.viewers = atoi(value);
        else if (!strcmp(word, "--lines")) options.lines = strtoull(value, NULL, 10);
        else if (!strcmp(word, "--feed-port")) options.feed_port = atoi(value);
        else if (!strcmp(word, "--feed-form")) options.post = !strcmp(value, "post");
        else if (!strcmp(word, "--feed-path")) options.feed_path = value;
        else if (!strcmp(word, "--posts")) options.posts = strtoull(value, NULL, 10);
        else if (!strcmp(word, "--rate")) options.rate = atof(value);
        else if (!strcmp(word, "--size")) options.size = atoi(value);
        else if (!strcmp(word, "--sample")) options.sample = atoi(value);
        else if (!strcmp(word, "--go")) options.go = value;
        else if (!strcmp(word, "--timeout")) options.timeout = atof(value);
        else if (!strcmp(word, "--header")) {
            size_t have = strlen(options.headers);
            snprintf(options.headers + have, sizeof options.headers - have, "%s\r\n", value);
        } else {
            fprintf(stderr, "load: there is no %s\n", word);
            exit(2);
        }
    }
    if (options.viewers < 1 || options.port < 1 || options.size < 31 || options.size > 32768) {
        fprintf(stderr, "load: --port and --viewers are needed, and a --size of 31 to 32768\n");
        exit(2);
    }
}

int main(int count, char **words) {
    parse(count, words);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    viewers = calloc(options.viewers, sizeof *viewers);
    if (!viewers) fail("memory");
    int sample = options.sample > 0 && options.sample < options.viewers ? options.sample : options.viewers;
    for (int i = 0; i < sample; i++) viewers[(uint64_t)i * options.viewers / sample].sampled = 1;
    open_more();

    double cpu = 0;
    uint64_t began = 0, deadline = now() + (uint64_t)(options.timeout * 1e9);
    for (;;) {
        struct epoll_event events[512];
        int ready = epoll_wait(poller, events, 512, 100);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            void *who = events[i].data.ptr;
            if (who == &feed_tag) {
                if (events[i].events & ~EPOLLOUT) feed_readable();
                if (events[i].events & EPOLLOUT) feed();
            } else if (who == &tick_tag) {
                uint64_t ticks;
                if (read(tick_fd, &ticks, sizeof ticks) == sizeof ticks) {
                    due = due + ticks < options.lines ? due + ticks : options.lines;
                    feed();
                }
            } else {
                Viewer *viewer = who;
                if (viewer->fd < 0) continue;
                if (events[i].events & EPOLLOUT) ask(viewer);
                else readable(viewer);
            }
        }
        uint64_t at = now();
        if (!began && opened == options.viewers) {
            began = at;
            cpu = cpu_seconds();
            if (options.hold) {
                printf("{\"open\": %d}\n", opened);
                fflush(stdout);
                deadline = UINT64_MAX;
            } else {
                begin();
            }
        }
        if (began && !options.hold && done_viewers == (uint64_t)options.viewers) break;
        if (at > deadline || closed_count == options.viewers) break;
    }
    report(began ? (cpu_seconds() - cpu) / ((double)(now() - began) / 1e9) : 0);
    return 0;
}

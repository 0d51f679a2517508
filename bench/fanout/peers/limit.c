/*
 * The limit: the chunks that come by TCP are written to every viewer as they are, in one frame each. Nothing is decoded,
 * and what is next isn't read until all have this.
 *
 *     limit PORT FEED_PORT
 *
 * (The handshake's answer is a constant, since `load` always sends the key of RFC 6455's example.)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 16384, CHUNK = 64 << 10, HEAD = 10 };

static int viewers[MOST], count;

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 1024) < 0) {
        perror("limit");
        exit(1);
    }
    return fd;
}

static void welcome(int fd) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    char request[8192];
    size_t have = 0;
    while (have < sizeof request) {
        ssize_t got = read(fd, request + have, sizeof request - have);
        if (got <= 0) exit(1);
        have += got;
        if (have >= 4 && !memcmp(request + have - 4, "\r\n\r\n", 4)) break;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (write(fd, answer, sizeof answer - 1) < 0 || count == MOST) exit(1);
    viewers[count++] = fd;
}

static void put(int fd, const uint8_t *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {fd, POLLOUT, 0};
            poll(&wait, 1, 1000);
        } else if (sent < 0) {
            return;
        } else {
            data += sent;
            size -= sent;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct pollfd ports[3] = {{listen_on(atoi(argv[1])), POLLIN, 0}, {listen_on(atoi(argv[2])), POLLIN, 0}, {-1, POLLIN, 0}};
    puts("{\"ready\": true}");
    fflush(stdout);
    static uint8_t buffer[HEAD + CHUNK];
    for (;;) {
        poll(ports, 3, -1);
        if (ports[0].revents & POLLIN) welcome(accept(ports[0].fd, NULL, NULL));
        if (ports[1].revents & POLLIN) ports[2].fd = accept(ports[1].fd, NULL, NULL);
        if (!ports[2].revents) continue;
        ssize_t got = read(ports[2].fd, buffer + HEAD, CHUNK);
        if (got <= 0) {
            ports[2].fd = -1;
            continue;
        }
        uint8_t *head = buffer;
        if (got < 126) {
            head = buffer + HEAD - 2;
            head[1] = got;
        } else if (got < 65536) {
            head = buffer + HEAD - 4;
            head[1] = 126;
            head[2] = got >> 8;
            head[3] = got & 0xff;
        } else {
            head[1] = 127;
            for (int i = 0; i < 8; i++) head[2 + i] = (uint64_t)got >> (56 - 8 * i);
        }
        head[0] = 0x81;
        size_t size = buffer + HEAD + got - head;
        for (int i = 0; i < count; i++) put(viewers[i], head, size);
    }
}

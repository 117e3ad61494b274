#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define SOURCE_ADDRESSES 250
#define BLOCK_BYTES (1024 * 1024)
/* A slow peer is a distant one: segments of an Ethernet's size, and room for no more than it takes in a second. */
#define SLOW_SEGMENT_BYTES 1448

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void connection_fail(struct connection *connection, struct tally *tally, enum failure failure)
{
    tally->failures[failure]++;
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
}

static void be_slow(int fd, uint64_t bytes_s)
{
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &(int){SLOW_SEGMENT_BYTES}, sizeof(int));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){(int)bytes_s}, sizeof(int));
}

enum progress connection_open(struct connection *connection, const struct options *options, struct tally *tally)
{
    static uint32_t opened;
    struct sockaddr_in source = {.sin_family = AF_INET};

    connection->opened_ns = now_ns();
    connection->sent = 0;
    reply_begin(&connection->reply, &options->expected);
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) {
        connection_fail(connection, tally, FAIL_LOCAL);
        return PROGRESS_FAILED;
    }
    if (options->slow_bytes_s > 0)
        be_slow(connection->fd, options->slow_bytes_s);
    /* 127.0.1.1 and those after it. */
    source.sin_addr.s_addr = htonl(0x7f000101U + opened++ % SOURCE_ADDRESSES);
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    if (bind(connection->fd, (struct sockaddr *)&source, sizeof source) < 0) {
        connection_fail(connection, tally, FAIL_LOCAL);
        return PROGRESS_FAILED;
    }
    if (connect(connection->fd, (const struct sockaddr *)&options->server, sizeof options->server) < 0
        && errno != EINPROGRESS) {
        connection_fail(connection, tally, errno == EADDRNOTAVAIL ? FAIL_LOCAL : FAIL_CONNECT);
        return PROGRESS_FAILED;
    }
    return connection_send(connection, options, tally);
}

enum progress connection_send(struct connection *connection, const struct options *options, struct tally *tally)
{
    while (connection->sent < options->send_length) {
        ssize_t sent = send(connection->fd, options->send + connection->sent, options->send_length - connection->sent,
                            MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINPROGRESS))
            return PROGRESS_OPEN;
        if (sent < 0) {
            connection_fail(connection, tally, errno == ECONNREFUSED ? FAIL_CONNECT : FAIL_RESET);
            return PROGRESS_FAILED;
        }
        connection->sent += (size_t)sent;
    }
    return PROGRESS_OPEN;
}

static enum progress complete(struct connection *connection, struct tally *tally)
{
    histogram_add(&tally->latency, (now_ns() - connection->opened_ns) / 1000);
    tally->completed++;
    close(connection->fd);
    connection->fd = -1;
    return PROGRESS_DONE;
}

enum progress connection_receive(struct connection *connection, const struct options *options, struct tally *tally,
                                 uint64_t limit)
{
    static char block[BLOCK_BYTES];

    while (limit > 0) {
        uint64_t body_left = options->discard ? reply_body_left(&connection->reply, &options->expected) : 0;
        uint64_t wanted = limit < sizeof block ? limit : sizeof block;
        ssize_t got;
        enum verdict verdict;

        if (body_left > 0)
            wanted = wanted < body_left ? wanted : body_left;
        got = recv(connection->fd, block, wanted, body_left > 0 ? MSG_TRUNC : 0);
        if (got < 0 && (errno == EAGAIN || errno == ENOTCONN))
            return PROGRESS_OPEN;
        if (got < 0) {
            connection_fail(connection, tally, errno == ECONNREFUSED ? FAIL_CONNECT : FAIL_RESET);
            return PROGRESS_FAILED;
        }
        limit -= (uint64_t)got;
        tally->bytes += (uint64_t)got;
        if (got == 0)
            verdict = reply_eof(&connection->reply, &options->expected);
        else if (body_left > 0)
            verdict = reply_skip(&connection->reply, &options->expected, (size_t)got);
        else
            verdict = reply_feed(&connection->reply, &options->expected, block, (size_t)got);
        if (verdict == REPLY_COMPLETE)
            return complete(connection, tally);
        if (verdict == REPLY_BAD) {
            connection_fail(connection, tally, got == 0 ? FAIL_EARLY_EOF : FAIL_CONTENT);
            return PROGRESS_FAILED;
        }
    }
    return PROGRESS_OPEN;
}

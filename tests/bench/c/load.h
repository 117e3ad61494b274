/* What every kind of load has in common: the options, the tally, and opening a connection. */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "reply.h"

struct options {
    struct sockaddr_in server;
    int clients;
    double warmup_s;
    double seconds;
    double grace_s;        /* for replies that are late when the time is over */
    uint64_t requests;     /* stop after so many; 0: only by time */
    bool discard;          /* throw the body away in the kernel */
    uint64_t slow_bytes_s; /* of each connection; 0: as fast as it goes */
    double opens_per_s;    /* of slow connections */
    const char *send;
    size_t send_length;
    struct expectation expected;
};

enum failure { FAIL_LOCAL, FAIL_CONNECT, FAIL_RESET, FAIL_EARLY_EOF, FAIL_CONTENT, FAIL_UNANSWERED, FAILURES };

struct tally {
    uint64_t completed;
    uint64_t bytes;
    uint64_t failures[FAILURES];
    struct histogram latency;
};

struct connection {
    int fd; /* -1: closed */
    uint64_t opened_ns;
    size_t sent;
    struct reply reply;
};

enum progress { PROGRESS_OPEN, PROGRESS_DONE, PROGRESS_FAILED };

uint64_t now_ns(void);

/* Begin to connect, from the next of many loopback addresses, so that ports never run out. */
enum progress connection_open(struct connection *connection, const struct options *options, struct tally *tally);

/* Send what is left of the request; nothing happens while not connected. */
enum progress connection_send(struct connection *connection, const struct options *options, struct tally *tally);

/* Receive at most `limit` bytes, or all there are. Completed and failed connections are closed. */
enum progress connection_receive(struct connection *connection, const struct options *options, struct tally *tally,
                                 uint64_t limit);

void connection_fail(struct connection *connection, struct tally *tally, enum failure failure);

void run_fast(const struct options *options, struct tally *tally);
void run_slow(const struct options *options, struct tally *tally);

#endif

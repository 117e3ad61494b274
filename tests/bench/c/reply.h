/* What a reply must look like, and how far one has come: a head up to a delimiter, a body of known content, a tail. */
#ifndef REPLY_H
#define REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_PERIOD 251
#define HEAD_BYTES 1024

struct expectation {
    const char *head_end; /* ends the head; "": there is no head */
    const char *head_has; /* must be somewhere in the head */
    uint64_t body_bytes;  /* of the pattern: byte i is i % PATTERN_PERIOD */
    const char *tail;     /* follows the body exactly */
    bool until_eof;       /* complete only when the server has closed */
};

enum verdict { REPLY_MORE, REPLY_COMPLETE, REPLY_BAD };

struct reply {
    size_t head_length;
    bool in_head;
    uint64_t body_seen;
    size_t tail_seen;
    char head[HEAD_BYTES];
};

void reply_begin(struct reply *reply, const struct expectation *expected);

/* Take `length` bytes that came, checking every one. */
enum verdict reply_feed(struct reply *reply, const struct expectation *expected, const char *data, size_t length);

/* Take note of bytes of the body that came and were thrown away unseen. */
enum verdict reply_skip(struct reply *reply, const struct expectation *expected, size_t length);

/* The server has closed. */
enum verdict reply_eof(const struct reply *reply, const struct expectation *expected);

/* How many bytes of the body are still to come; 0 while in the head. */
uint64_t reply_body_left(const struct reply *reply, const struct expectation *expected);

#endif

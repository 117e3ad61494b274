#define _GNU_SOURCE
#include "reply.h"

#include <string.h>

#define PATTERN_BYTES (64 * 1024)

static const char *pattern_from(uint64_t offset)
{
    static char pattern[PATTERN_BYTES + PATTERN_PERIOD];
    static bool made;

    if (!made) {
        for (size_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (char)(i % PATTERN_PERIOD);
        made = true;
    }
    return pattern + offset % PATTERN_PERIOD;
}

static bool arrived(const struct reply *reply, const struct expectation *expected)
{
    return !reply->in_head && reply->body_seen == expected->body_bytes && reply->tail_seen == strlen(expected->tail);
}

void reply_begin(struct reply *reply, const struct expectation *expected)
{
    reply->in_head = *expected->head_end != '\0';
    reply->head_length = 0;
    reply->body_seen = 0;
    reply->tail_seen = 0;
}

/* Returns how many bytes belong to the head, or -1: it is not what was expected. */
static long feed_head(struct reply *reply, const struct expectation *expected, const char *data, size_t length)
{
    size_t before = reply->head_length;
    size_t room = sizeof reply->head - before;
    size_t taken = length < room ? length : room;
    const char *end;
    size_t head_length;

    memcpy(reply->head + before, data, taken);
    reply->head_length += taken;
    end = memmem(reply->head, reply->head_length, expected->head_end, strlen(expected->head_end));
    if (end == NULL)
        return reply->head_length == sizeof reply->head ? -1 : (long)taken;
    head_length = (size_t)(end - reply->head) + strlen(expected->head_end);
    if (memmem(reply->head, head_length, expected->head_has, strlen(expected->head_has)) == NULL)
        return -1;
    reply->in_head = false;
    reply->head_length = head_length;
    return (long)(head_length - before);
}

enum verdict reply_feed(struct reply *reply, const struct expectation *expected, const char *data, size_t length)
{
    if (reply->in_head) {
        long taken = feed_head(reply, expected, data, length);
        if (taken < 0)
            return REPLY_BAD;
        data += taken;
        length -= (size_t)taken;
    }
    while (length > 0 && !reply->in_head && reply->body_seen < expected->body_bytes) {
        uint64_t left = expected->body_bytes - reply->body_seen;
        size_t piece = length < PATTERN_BYTES ? length : PATTERN_BYTES;
        piece = piece < left ? piece : (size_t)left;
        if (memcmp(data, pattern_from(reply->body_seen), piece) != 0)
            return REPLY_BAD;
        reply->body_seen += piece;
        data += piece;
        length -= piece;
    }
    if (length > 0) {
        if (length > strlen(expected->tail) - reply->tail_seen
            || memcmp(data, expected->tail + reply->tail_seen, length) != 0)
            return REPLY_BAD;
        reply->tail_seen += length;
    }
    return arrived(reply, expected) && !expected->until_eof ? REPLY_COMPLETE : REPLY_MORE;
}

enum verdict reply_skip(struct reply *reply, const struct expectation *expected, size_t length)
{
    reply->body_seen += length;
    return arrived(reply, expected) && !expected->until_eof ? REPLY_COMPLETE : REPLY_MORE;
}

enum verdict reply_eof(const struct reply *reply, const struct expectation *expected)
{
    return arrived(reply, expected) && expected->until_eof ? REPLY_COMPLETE : REPLY_BAD;
}

uint64_t reply_body_left(const struct reply *reply, const struct expectation *expected)
{
    return reply->in_head ? 0 : expected->body_bytes - reply->body_seen;
}

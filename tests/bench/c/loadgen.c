/* The load generator: one thread, one epoll, a new connection for every request. Prints what it saw as JSON. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "load.h"

static const char *const FAILURE_NAMES[FAILURES]
    = {"local", "connect", "reset", "early_eof", "content", "unanswered"};

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: loadgen -p PORT [-a ADDRESS] [-c CLIENTS] [-w WARMUP_S] [-t SECONDS] [-g GRACE_S]\n"
                    "  [-n REQUESTS] [-s SEND] [-h HEAD_END] [-H HEAD_HAS] [-b BODY_BYTES] [-T TAIL] [-e] [-d]\n"
                    "  [-r SLOW_BYTES_S] [-o OPENS_PER_S]\n"
                    "  in SEND, HEAD_END and TAIL: \\r, \\n and \\\\\n");
    exit(2);
}

/* Undo the escapes, in place. */
static char *unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        if (*in == '\\' && in[1] != '\0') {
            in++;
            *out++ = *in == 'n' ? '\n' : *in == 'r' ? '\r' : *in;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
    return text;
}

static bool set_how(struct options *options, int option)
{
    switch (option) {
    case 'c': options->clients = atoi(optarg); return true;
    case 'w': options->warmup_s = atof(optarg); return true;
    case 't': options->seconds = atof(optarg); return true;
    case 'g': options->grace_s = atof(optarg); return true;
    case 'n': options->requests = strtoull(optarg, NULL, 10); return true;
    case 'd': options->discard = true; return true;
    case 'r': options->slow_bytes_s = strtoull(optarg, NULL, 10); return true;
    case 'o': options->opens_per_s = atof(optarg); return true;
    default: return false;
    }
}

static bool set_what(struct options *options, int option)
{
    switch (option) {
    case 'a': return inet_pton(AF_INET, optarg, &options->server.sin_addr) == 1;
    case 'p': options->server.sin_port = htons((uint16_t)atoi(optarg)); return true;
    case 's': options->send = unescape(optarg); return true;
    case 'h': options->expected.head_end = unescape(optarg); return true;
    case 'H': options->expected.head_has = unescape(optarg); return true;
    case 'b': options->expected.body_bytes = strtoull(optarg, NULL, 10); return true;
    case 'T': options->expected.tail = unescape(optarg); return true;
    case 'e': options->expected.until_eof = true; return true;
    default: return false;
    }
}

static void parse(struct options *options, int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "a:p:c:w:t:g:n:s:h:H:b:T:edr:o:")) != -1)
        if (!set_how(options, option) && !set_what(options, option))
            usage();
    if (optind != argc || options->server.sin_port == 0 || options->clients < 1)
        usage();
    options->send_length = strlen(options->send);
}

static double cpu_s(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
           + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void print(const struct tally *tally, double elapsed_s)
{
    uint64_t errors = 0;

    printf("{\"completed\": %llu, \"bytes\": %llu, \"elapsed_s\": %.6f, \"cpu_s\": %.3f",
           (unsigned long long)tally->completed, (unsigned long long)tally->bytes, elapsed_s, cpu_s());
    printf(", \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f", histogram_quantile_ms(&tally->latency, 0.5),
           histogram_quantile_ms(&tally->latency, 0.99), (double)tally->latency.max_us / 1000);
    for (int i = 0; i < FAILURES; i++) {
        printf(", \"%s\": %llu", FAILURE_NAMES[i], (unsigned long long)tally->failures[i]);
        errors += tally->failures[i];
    }
    printf(", \"errors\": %llu}\n", (unsigned long long)errors);
}

int main(int argc, char **argv)
{
    static struct tally tally;
    struct options options = {
        .server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .clients = 1,
        .seconds = 1,
        .opens_per_s = 1000,
        .send = "",
        .expected = {.head_end = "", .head_has = "", .tail = ""},
    };
    uint64_t begin_ns = now_ns();

    signal(SIGPIPE, SIG_IGN);
    parse(&options, argc, argv);
    if (options.slow_bytes_s > 0)
        run_slow(&options, &tally);
    else
        run_fast(&options, &tally);
    print(&tally, (double)(now_ns() - begin_ns) / 1e9);
    return 0;
}

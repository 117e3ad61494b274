#define _GNU_SOURCE
#include "serve.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 512
#define CHUNK_BYTES (1024 * 1024)
#define BACKLOG 4096

static const char TRAILER[] = "FS1 END ok\n";
static const char REFUSAL[] = "FS1 404 not-found\n";

/* Read one request line, without its line feed. Returns false at end-of-file. */
static int read_line(int fd, char line[LINE_BYTES])
{
    size_t length = 0;

    while (length < LINE_BYTES) {
        ssize_t got = read(fd, line + length, LINE_BYTES - length);
        if (got <= 0)
            return 0;
        length += (size_t)got;
        if (line[length - 1] == '\n') {
            line[length - 1] = '\0';
            return 1;
        }
    }
    return 0;
}

static void cork(int fd, int on)
{
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static int send_content(int out_fd, int file_fd, off_t size)
{
    off_t offset = 0;

    while (offset < size)
        if (sendfile(out_fd, file_fd, &offset, (size_t)(size - offset < CHUNK_BYTES ? size - offset : CHUNK_BYTES)) <= 0)
            return 0;
    return write(out_fd, TRAILER, sizeof TRAILER - 1) > 0;
}

static int answer(int out_fd, int root_fd, const char *line)
{
    int file_fd = strncmp(line, "GET /", 5) == 0 ? openat(root_fd, line + 5, O_RDONLY | O_NOFOLLOW) : -1;
    struct stat info;
    struct timespec now;
    char head[LINE_BYTES];
    int length;
    int good;

    if (file_fd < 0 || fstat(file_fd, &info) < 0)
        return write(out_fd, REFUSAL, sizeof REFUSAL - 1) > 0;
    clock_gettime(CLOCK_REALTIME, &now);
    length = snprintf(head, sizeof head,
                      "FS1 200 ok pid=%d start=%lld.%06ld type=file size=%lld mtime=%lld.%09ld mode=%o "
                      "etag=%llx-%llx-%llx offset=0 length=%lld\n",
                      (int)getpid(), (long long)now.tv_sec, now.tv_nsec / 1000, (long long)info.st_size,
                      (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_mode & 0777,
                      (unsigned long long)info.st_size, (unsigned long long)info.st_mtim.tv_sec,
                      (unsigned long long)info.st_ino, (long long)info.st_size);
    cork(out_fd, 1);
    good = write(out_fd, head, (size_t)length) == length && send_content(out_fd, file_fd, info.st_size);
    cork(out_fd, 0);
    close(file_fd);
    return good;
}

void serve(int in_fd, int out_fd, int root_fd)
{
    char line[LINE_BYTES];

    while (read_line(in_fd, line) && answer(out_fd, root_fd, line))
        ;
}

int listen_on(const char *address, const char *port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0
        || listen(fd, BACKLOG) < 0) {
        perror("listen");
        exit(EXIT_FAILURE);
    }
    return fd;
}

int open_root(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    return fd;
}

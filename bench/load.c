/* The load: three small programs in one. Each is one loop that does nothing but what is named here, in a process of
   its own, so that the server is what is measured. bench/load.py is the same without a compiler, and client.py starts
   them and says how they are spoken to.

     load post   HOST PORT CONNECTIONS SECONDS RATE FIRST REQUESTS
         sends HTTP requests over keep-alive connections: as fast as they are answered where RATE is 0, else RATE a
         second, whatever the answers do. At the end it prints a line a request: when it was due, the nanoseconds until
         it was answered, the status. REQUESTS is a file of blocks, "LENGTH OFFSET\n" and then the request: at OFFSET
         it has 12 digits that make it unlike all others, which are counted from FIRST.

     load listen HOST PORT CONNECTIONS REQUEST
         opens WebSockets with the upgrade in the file REQUEST, and says "open". When all of them have the n-th
         github_event, it says "n WHEN BYTES". It answers pings. It ends when its input does.

     load count  HOST PORT CONNECTIONS REQUEST OPENS ENDS
         the same for what speaks otherwise: a connection is open when the text OPENS has come, and an event is what the
         byte with the number ENDS ends.

     load floor  CONNECTIONS MESSAGE
         says on which port it listens, takes WebSockets, and for each byte of its input sends MESSAGE once to each of
         them: the bare loop of send() that a fan-out cannot be quicker than. It ends when its input does.

   WHEN and "due" are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    OPENING = 200,         /* connections that are being opened at a time */
    PER_ADDRESS = 20000,   /* connections from one address of this machine, which has some 28,000 ports */
    EVENTS = 1 << 20,      /* github_events that a listener counts */
    PEEK = 48,             /* bytes of a message that say what it is */
    LONGEST_ANSWER = 8192, /* bytes of an HTTP answer */
    PATIENCE = 10          /* seconds for answers that are still to come */
};

static const int64_t SECOND = 1000000000;

static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, values);
    fprintf(stderr, "\n");
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static char *slurp(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die("%s: %s", path, strerror(errno));
    *length = ftell(file);
    rewind(file);
    char *content = malloc(*length + 1);
    if (fread(content, 1, *length, file) != *length) die("%s: cannot be read", path);
    content[*length] = 0;
    fclose(file);
    return content;
}

static int connected(const char *host, int port, int number) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("%s is not an address", host);
    if (descriptor < 0) die("socket %d: %s", number, strerror(errno));
    if (number >= PER_ADDRESS) {
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / PER_ADDRESS);
        if (bind(descriptor, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    }
    if (connect(descriptor, (struct sockaddr *)&to, sizeof to)) die("connect %d: %s", number, strerror(errno));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return descriptor;
}

static void send_all(int descriptor, const char *data, size_t length) {
    while (length) {
        ssize_t sent = send(descriptor, data, length, MSG_NOSIGNAL);
        if (sent < 0) die("send: %s", strerror(errno));
        data += sent;
        length -= sent;
    }
}

static void watch(int epoll, int descriptor, void *of) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = of};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event)) die("epoll_ctl: %s", strerror(errno));
}

/* post */

typedef struct {
    char *text;
    size_t length, offset;
} Request;

typedef struct {
    int descriptor;
    int64_t due; /* 0: it is free */
    size_t have;
    char answer[LONGEST_ANSWER + 1];
} Poster;

typedef struct {
    int64_t due, took;
    int status;
} Answer;

static Request *requests;
static size_t request_count;

static void read_requests(const char *path) {
    size_t length;
    char *at = slurp(path, &length), *end = at + length;
    while (at < end) {
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        Request *request = &requests[request_count++];
        request->length = strtoul(at, &at, 10);
        request->offset = strtoul(at, &at, 10);
        request->text = at + 1;
        at = request->text + request->length;
    }
    if (!request_count || at != end) die("%s holds no requests", path);
}

static void ask(Poster *poster, long number, int64_t due) {
    Request *request = &requests[number % request_count];
    char digits[13];
    snprintf(digits, sizeof digits, "%012ld", number);
    memcpy(request->text + request->offset, digits, 12);
    poster->due = due;
    poster->have = 0;
    send_all(poster->descriptor, request->text, request->length);
}

/* The status, once the answer is whole; else 0. */
static int answered(Poster *poster) {
    ssize_t got = recv(poster->descriptor, poster->answer + poster->have, LONGEST_ANSWER - poster->have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) die("the server hung up: %s", got ? strerror(errno) : "end of stream");
    poster->have += got;
    poster->answer[poster->have] = 0;
    char *end = strstr(poster->answer, "\r\n\r\n");
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(poster->answer, "\r\ncontent-length:");
    size_t whole = end + 4 - poster->answer + (length ? strtoul(length + 17, NULL, 10) : 0);
    *end = '\r';
    return poster->have >= whole ? atoi(poster->answer + 9) : 0;
}

static void post(const char *host, int port, int connections, double seconds, double rate, long number) {
    int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    Poster *posters = calloc(connections, sizeof *posters), **free_ones = calloc(connections, sizeof *free_ones);
    int free_count = 0, first_free = 0;
    Answer *answers = NULL;
    size_t count = 0, room = 0;
    for (int i = 0; i < connections; i++) {
        posters[i].descriptor = connected(host, port, i);
        watch(epoll, posters[i].descriptor, &posters[i]);
        free_ones[free_count++] = &posters[i];
    }
    watch(epoll, timer, NULL);
    int64_t begun = now(), end = begun + (int64_t)(seconds * SECOND);
    for (long sent = 0;;) {
        for (; free_count; sent++) {
            int64_t due = rate > 0 ? begun + (int64_t)(sent / rate * SECOND) : now();
            if (due >= end) break;
            if (due > now()) {
                struct itimerspec at = {.it_value = {due / SECOND, due % SECOND}};
                timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
                break;
            }
            /* In turn: one that is never asked again would be closed for being idle. */
            ask(free_ones[first_free], number++, due);
            first_free = (first_free + 1) % connections;
            free_count--;
        }
        if (now() >= end && free_count == connections) break;
        if (now() >= end + PATIENCE * SECOND) die("%d requests were not answered", connections - free_count);
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, 100);
        for (int i = 0; i < ready; i++) {
            Poster *poster = events[i].data.ptr;
            uint64_t ticks;
            if (!poster) {
                if (read(timer, &ticks, sizeof ticks) < 0) continue;
            } else {
                int status = answered(poster);
                if (!status) continue;
                if (count == room) answers = realloc(answers, (room = room * 2 + 1024) * sizeof *answers);
                answers[count++] = (Answer){poster->due, now() - poster->due, status};
                free_ones[(first_free + free_count++) % connections] = poster;
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        printf("%lld %lld %d\n", (long long)answers[i].due, (long long)answers[i].took, answers[i].status);
}

/* listen */

typedef struct {
    int descriptor, upgraded, event;
    unsigned events;
    size_t have, length, skip;
    unsigned char head[1024]; /* of the answer to the upgrade; then of the frame that is being read */
} Listener;

static const char *opens = "\r\n\r\n";
static int ends = -1;     /* WebSocket's frames */
static unsigned *reached; /* by n: how many listeners have their n-th event */

static void pong(Listener *listener, const unsigned char *payload, size_t length) {
    /* Masked, as RFC 6455 wants it of a client, with a mask of zeros. */
    char frame[6 + 125] = {(char)0x8a, (char)(0x80 | length)};
    memcpy(frame + 6, payload, length);
    send_all(listener->descriptor, frame, 6 + length);
}

static void whole(Listener *listener, int connections) {
    if (!listener->event) return;
    listener->event = 0;
    unsigned number = ++listener->events;
    if (number >= EVENTS) die("too many events");
    if (++reached[number] == (unsigned)connections) {
        printf("%u %lld %zu\n", number, (long long)now(), listener->length);
        fflush(stdout);
    }
}

/* Take one byte stream apart, without keeping more of it than the beginning of a frame. */
static void frames(Listener *listener, int connections, const unsigned char *data, size_t size) {
    while (size) {
        if (listener->skip) {
            size_t part = size < listener->skip ? size : listener->skip;
            data += part;
            size -= part;
            listener->skip -= part;
            if (!listener->skip) whole(listener, connections);
            continue;
        }
        unsigned char *head = listener->head;
        head[listener->have++] = *data++;
        size--;
        if (listener->have < 2) continue;
        size_t header = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10;
        if (listener->have < header) continue;
        size_t length = header == 2 ? head[1] : 0;
        for (size_t i = 2; i < header; i++) length = length << 8 | head[i];
        int code = head[0] & 15;
        size_t wanted = code >= 8 || length < PEEK ? length : PEEK;
        if (listener->have < header + wanted) continue;
        if (code == 8) die("the server closed a WebSocket: %d", length > 1 ? head[header] << 8 | head[header + 1] : 0);
        if (code == 9) pong(listener, head + header, length);
        listener->event = code == 1 && memmem(head + header, wanted, "github_event", 12) != NULL;
        listener->length = length;
        listener->skip = length - wanted;
        listener->have = 0;
        if (!listener->skip) whole(listener, connections);
    }
}

static void marks(Listener *listener, int connections, const unsigned char *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        listener->length++;
        if (data[i] != ends) continue;
        listener->event = 1;
        whole(listener, connections);
        listener->length = 0;
    }
}

/* The answer to the request; what follows it are events. */
static size_t upgrade(Listener *listener, const unsigned char *data, size_t size) {
    size_t wanted = strlen(opens);
    for (size_t i = 0; i < size; i++) {
        if (listener->have >= sizeof listener->head) die("too long an answer");
        listener->head[listener->have++] = data[i];
        if (listener->have >= wanted && !memcmp(listener->head + listener->have - wanted, opens, wanted)) {
            if (ends < 0 && memcmp(listener->head, "HTTP/1.1 101", 12))
                die("no upgrade: %.12s", (char *)listener->head);
            listener->upgraded = 1;
            listener->have = 0;
            return i + 1;
        }
    }
    return size;
}

static void listen_to(const char *host, int port, int connections, const char *path) {
    size_t length;
    char *request = slurp(path, &length);
    int epoll = epoll_create1(0), opened = 0, upgraded = 0;
    Listener *listeners = calloc(connections, sizeof *listeners);
    reached = calloc(EVENTS, sizeof *reached);
    watch(epoll, STDIN_FILENO, NULL);
    for (;;) {
        for (; opened < connections && opened - upgraded < OPENING; opened++) {
            listeners[opened].descriptor = connected(host, port, opened);
            watch(epoll, listeners[opened].descriptor, &listeners[opened]);
            send_all(listeners[opened].descriptor, request, length);
        }
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            static unsigned char data[1 << 18];
            Listener *listener = events[i].data.ptr;
            if (!listener) return;
            ssize_t size = recv(listener->descriptor, data, sizeof data, MSG_DONTWAIT);
            if (size < 0 && errno == EAGAIN) continue;
            if (size <= 0) die("the server hung up: %s", size ? strerror(errno) : "end of stream");
            size_t used = 0;
            if (!listener->upgraded) {
                used = upgrade(listener, data, size);
                if (listener->upgraded && ++upgraded == connections) {
                    printf("open\n");
                    fflush(stdout);
                }
            }
            (ends < 0 ? frames : marks)(listener, connections, data + used, size - used);
        }
    }
}

/* floor */

static void send_to_all(int connections, const char *path) {
    /* The answer to the key of RFC 6455's example, which client.py sends. */
    static const char answer[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    size_t length;
    char *message = slurp(path, &length), request[4096], byte;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1, *sockets = calloc(connections, sizeof *sockets);
    if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 2048)) die("%s", strerror(errno));
    getsockname(listening, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (int i = 0; i < connections; i++) {
        sockets[i] = accept(listening, NULL, NULL);
        if (sockets[i] < 0 || recv(sockets[i], request, sizeof request, 0) <= 0) die("accept: %s", strerror(errno));
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        send_all(sockets[i], answer, sizeof answer - 1);
    }
    while (read(STDIN_FILENO, &byte, 1) == 1)
        for (int i = 0; i < connections; i++) send_all(sockets[i], message, length);
}

int main(int count, char **given) {
    if (count == 9 && !strcmp(given[1], "post")) {
        read_requests(given[8]);
        post(given[2], atoi(given[3]), atoi(given[4]), atof(given[5]), atof(given[6]), atol(given[7]));
    } else if (count == 6 && !strcmp(given[1], "listen")) {
        listen_to(given[2], atoi(given[3]), atoi(given[4]), given[5]);
    } else if (count == 8 && !strcmp(given[1], "count")) {
        opens = given[6];
        ends = atoi(given[7]);
        listen_to(given[2], atoi(given[3]), atoi(given[4]), given[5]);
    } else if (count == 4 && !strcmp(given[1], "floor")) {
        send_to_all(atoi(given[2]), given[3]);
    } else {
        die("see the head of bench/load.c");
    }
    return 0;
}

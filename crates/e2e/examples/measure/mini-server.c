/*
 * A minimal listener in C, with which `scripts/measure listener-cost` compares palabre-listener.
 *
 * Each participant has a blocking OpenSSL process with a port of its own. The program prints the ports, one per line. The response to a GET is an HTML
 * document that never ends, because its Content-Length is larger than all that is sent. At regular intervals the process appends a script with the
 * next chunk of a WAV file, as a WAV in base64. There is no access key, no queue, no silence, and no second client at the same time.
 *
 * usage: mini-server CERTIFICATE KEY WAV CHUNK_MS COUNT        (the WAV: 44 bytes of head, mono, 16 bits)
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 44, CHUNK_MS_MAX = 1000, RATE_HZ_MAX = 48000, WAV_BYTES_MAX = HEAD_BYTES + RATE_HZ_MAX * 2 };

static const char response[] = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1000000000000\r\n\r\n"
                               "<!doctype html><meta charset=utf-8><title>Mini</title><script>function p(s){parent.play(s)}</script>";

static void die(const char *what) {
    perror(what);
    exit(111);
}

/* Sets the sizes in a WAV's head. */
static void set_sizes(unsigned char *wav, unsigned data_bytes) {
    unsigned riff_bytes = data_bytes + HEAD_BYTES - 8;
    memcpy(wav + 4, &riff_bytes, 4);
    memcpy(wav + 40, &data_bytes, 4);
}

/* Sends chunks of the file until the client closes the connection. */
static void stream(SSL *ssl, int file, int chunk_ms) {
    static unsigned char wav[WAV_BYTES_MAX];
    static char script[64 + WAV_BYTES_MAX * 4 / 3 + 4];
    struct stat info;
    unsigned rate_hz;
    if (pread(file, wav, HEAD_BYTES, 0) != HEAD_BYTES || fstat(file, &info) != 0)
        die("unable to read the WAV");
    memcpy(&rate_hz, wav + 24, 4);
    if (rate_hz > RATE_HZ_MAX)
        rate_hz = RATE_HZ_MAX;
    unsigned bytes = rate_hz * 2 / 1000 * (unsigned)chunk_ms;
    set_sizes(wav, bytes);
    off_t at = HEAD_BYTES;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        if (at + (off_t)bytes > info.st_size)
            at = HEAD_BYTES;
        if (pread(file, wav + HEAD_BYTES, bytes, at) != (ssize_t)bytes)
            die("unable to read the WAV");
        at += bytes;
        int length = sprintf(script, "<script>p('");
        length += EVP_EncodeBlock((unsigned char *)script + length, wav, (int)(HEAD_BYTES + bytes));
        length += sprintf(script + length, "')</script>");
        if (SSL_write(ssl, script, length) <= 0)
            return;
        next.tv_nsec += chunk_ms * 1000000L;
        next.tv_sec += next.tv_nsec / 1000000000L;
        next.tv_nsec %= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}

static void serve(SSL_CTX *context, int socket, int file, int chunk_ms) {
    char request[16384];
    for (;;) {
        int client = accept(socket, NULL, NULL);
        if (client < 0)
            die("unable to accept");
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof request) > 0 && SSL_write(ssl, response, sizeof response - 1) > 0)
            stream(ssl, file, chunk_ms);
        SSL_free(ssl);
        close(client);
    }
}

/* Listens on a free port of loopback, and prints the port. */
static int listen_on_a_free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (socket_fd < 0 || bind(socket_fd, (struct sockaddr *)&address, length) != 0 || listen(socket_fd, 8) != 0 ||
        getsockname(socket_fd, (struct sockaddr *)&address, &length) != 0)
        die("unable to listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return socket_fd;
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: mini-server CERTIFICATE KEY WAV CHUNK_MS COUNT\n");
        return 2;
    }
    int chunk_ms = atoi(words[4]), participants = atoi(words[5]);
    if (chunk_ms < 1 || chunk_ms > CHUNK_MS_MAX || participants < 1) {
        fprintf(stderr, "mini-server: CHUNK_MS is 1 to %d, COUNT is at least 1\n", CHUNK_MS_MAX);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    /* End this process when the measuring program ends, even if that program is killed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, words[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, words[2], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "mini-server: unable to use the certificate or the key\n");
        return 78;
    }
    int file = open(words[3], O_RDONLY);
    if (file < 0)
        die("unable to open the WAV");
    for (int n = 0; n < participants; n++) {
        int socket_fd = listen_on_a_free_port();
        pid_t child = fork();
        if (child < 0)
            die("unable to fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(context, socket_fd, file, chunk_ms);
        }
        close(socket_fd);
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}

#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const int SMALL_WINDOW = 4096; /* bytes */

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int keep_ticket(SSL *ssl, SSL_SESSION *ticket)
{
    struct link *link = SSL_get_app_data(ssl);
    SSL_SESSION_free(link->ticket);
    link->ticket = ticket;
    return 1; /* it is ours now */
}

SSL_CTX *link_context(const char *folder, bool verify)
{
    char ca[512], cert[512], key[512];
    snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set1_groups_list(context, "X25519")
        || SSL_CTX_use_certificate_chain_file(context, cert) != 1
        || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 || !SSL_CTX_load_verify_file(context, ca)) {
        ERR_print_errors_fp(stderr);
        fprintf(stderr, "error: cannot use the files of %s\n", folder);
        exit(2);
    }
    SSL_CTX_set_verify(context, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_ticket);
    return context;
}

static int open_socket(int port, uint32_t source, bool small_window)
{
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (small_window)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &SMALL_WINDOW, sizeof SMALL_WINDOW);
    if (source) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0) {
            close(fd);
            return -1;
        }
    }
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

bool link_dial(struct link *link, SSL_CTX *context, int port, uint32_t source, bool small_window, bool resume)
{
    link->fd = open_socket(port, source, small_window);
    if (link->fd < 0)
        return false;
    link->ssl = SSL_new(context);
    SSL_set_bio(link->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_app_data(link->ssl, link);
    SSL_set_tlsext_host_name(link->ssl, "localhost");
    SSL_set1_host(link->ssl, "localhost");
    if (resume && link->ticket)
        SSL_set_session(link->ssl, link->ticket);
    SSL_set_connect_state(link->ssl);
    link->state = LINK_TCP;
    return true;
}

bool link_fill(struct link *link, size_t most)
{
    uint8_t bytes[16384];
    while (most > 0) {
        ssize_t got = recv(link->fd, bytes, most < sizeof bytes ? most : sizeof bytes, 0);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR;
        if (got == 0)
            return false;
        BIO_write(SSL_get_rbio(link->ssl), bytes, (int)got);
        most -= (size_t)got;
        if ((size_t)got < sizeof bytes)
            break;
    }
    return true;
}

bool link_advance(struct link *link)
{
    if (link->state != LINK_TLS)
        return true;
    int done = SSL_do_handshake(link->ssl);
    if (done == 1) {
        link->state = LINK_OPEN;
        link->is_resumed = SSL_session_reused(link->ssl);
        return true;
    }
    int error = SSL_get_error(link->ssl, done);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ;
}

int link_read(struct link *link, uint8_t *into, int room)
{
    int got = SSL_read(link->ssl, into, room);
    if (got > 0)
        return got;
    int error = SSL_get_error(link->ssl, got);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ ? 0 : -1;
}

void link_write(struct link *link, const uint8_t *bytes, size_t count)
{
    SSL_write(link->ssl, bytes, (int)count); /* into memory, where there always is room */
}

size_t link_waiting(const struct link *link)
{
    return BIO_ctrl_pending(SSL_get_wbio(link->ssl));
}

bool link_flush(struct link *link, size_t most)
{
    BIO *out = SSL_get_wbio(link->ssl);
    uint8_t gone[16384];
    while (most > 0) {
        char *bytes;
        long count = BIO_get_mem_data(out, &bytes);
        if (count <= 0)
            return true;
        size_t chunk = (size_t)count < sizeof gone ? (size_t)count : sizeof gone;
        if (chunk > most)
            chunk = most;
        ssize_t sent = send(link->fd, bytes, chunk, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR;
        BIO_read(out, gone, (int)sent);
        most -= (size_t)sent;
    }
    return true;
}

void link_close(struct link *link)
{
    if (link->state == LINK_CLOSED)
        return;
    if (link->state == LINK_OPEN)
        SSL_set_shutdown(link->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or its ticket counts as spoilt */
    SSL_free(link->ssl);
    close(link->fd);
    link->ssl = NULL;
    link->state = LINK_CLOSED;
}

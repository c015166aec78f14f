/* The client of GnuTLS. */
#include "client.h"
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

const char *const tls_library = "GnuTLS";
static gnutls_session_t session;
static gnutls_certificate_credentials_t files;
static gnutls_psk_client_credentials_t shared;
static gnutls_datum_t kept;
static const struct options *chosen;

static ssize_t send_bytes(gnutls_transport_ptr_t unused, const void *bytes, size_t count)
{
    (void)unused;
    return link_send(bytes, count);
}

static ssize_t receive_bytes(gnutls_transport_ptr_t unused, void *bytes, size_t room)
{
    int got = link_receive(bytes, room);
    (void)unused;
    return got < 0 ? 0 : got;
}

static int told(const char *doing, int code)
{
    fprintf(stderr, "GnuTLS: %s: %s (%d)\n", doing, gnutls_strerror(code), code);
    return -1;
}

int tls_open(const struct options *options, struct facts *facts)
{
    static char suite[160], priority[256];
    const char *versions = !options->version ? "" : strcmp(options->version, "1.2") ? ":-VERS-ALL:+VERS-TLS1.3" : ":-VERS-ALL:+VERS-TLS1.2";
    int code;
    chosen = options;
    gnutls_init(&session, GNUTLS_CLIENT);
    gnutls_transport_set_push_function(session, send_bytes);
    gnutls_transport_set_pull_function(session, receive_bytes);
    snprintf(priority, sizeof priority, "NORMAL%s%s%s", options->psk ? ":-KX-ALL:+ECDHE-PSK:+PSK" : "", versions,
             options->suite ? options->suite : "");
    if ((code = gnutls_priority_set_direct(session, priority, NULL))) return told("priority", code);
    if (options->psk) {
        gnutls_datum_t key = { (unsigned char *)options->psk, strlen(options->psk) };
        gnutls_psk_allocate_client_credentials(&shared);
        gnutls_psk_set_client_credentials(shared, options->identity, &key, GNUTLS_PSK_KEY_HEX);
        gnutls_credentials_set(session, GNUTLS_CRD_PSK, shared);
    } else {
        gnutls_certificate_allocate_credentials(&files);
        if (gnutls_certificate_set_x509_trust_file(files, options->ca, GNUTLS_X509_FMT_PEM) < 1 ||
            gnutls_certificate_set_x509_key_file(files, options->certificate, options->key, GNUTLS_X509_FMT_PEM))
            fail("certificate files cannot be read", 0);
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, files);
        gnutls_session_set_verify_cert(session, "localhost", 0);
    }
    if (options->max_fragment) gnutls_record_set_max_recv_size(session, options->max_fragment); /* RFC 8449 */
    if (kept.data) gnutls_session_set_data(session, kept.data, kept.size);
    do code = gnutls_handshake(session);
    while (code < 0 && !gnutls_error_is_fatal(code));
    if (code) return told("handshake", code);
    snprintf(suite, sizeof suite, "%s", gnutls_session_get_desc(session));
    facts->version = gnutls_protocol_get_name(gnutls_protocol_get_version(session));
    facts->suite = suite;
    facts->resumed = gnutls_session_is_resumed(session) && kept.data != NULL;
    return 0;
}

int tls_write(const void *bytes, size_t count)
{
    const char *at = bytes;
    while (count) {
        ssize_t written = gnutls_record_send(session, at, count);
        if (written < 0) return told("write", (int)written);
        at += written;
        count -= written;
    }
    return 0;
}

int tls_read(void *bytes, size_t room)
{
    ssize_t got;
    do got = gnutls_record_recv(session, bytes, room);
    while (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED);
    return got < 0 ? told("read", (int)got) : (int)got;
}

void tls_close(void)
{
    if (chosen->again && !kept.data) gnutls_session_get_data2(session, &kept);
    gnutls_bye(session, GNUTLS_SHUT_WR);
    gnutls_deinit(session);
    if (files) gnutls_certificate_free_credentials(files), files = NULL;
    if (shared) gnutls_psk_free_client_credentials(shared), shared = NULL;
}

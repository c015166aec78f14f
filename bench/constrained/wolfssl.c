/* The client of wolfSSL. */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include "client.h"

const char *const tls_library = "wolfSSL";
static WOLFSSL_CTX *context;
static WOLFSSL *ssl;
static WOLFSSL_SESSION *kept;
static const struct options *chosen;

static int send_bytes(WOLFSSL *connection, char *bytes, int count, void *unused)
{
    (void)connection, (void)unused;
    return link_send(bytes, count) < 0 ? WOLFSSL_CBIO_ERR_CONN_CLOSE : count;
}

static int receive_bytes(WOLFSSL *connection, char *bytes, int room, void *unused)
{
    int got = link_receive(bytes, room);
    (void)connection, (void)unused;
    return got < 0 ? WOLFSSL_CBIO_ERR_CONN_CLOSE : got;
}

static unsigned int give_key(WOLFSSL *connection, const char *hint, char *identity, unsigned int room, unsigned char *key,
                             unsigned int most)
{
    int length = unhex(chosen->psk, key, most);
    (void)connection, (void)hint;
    snprintf(identity, room, "%s", chosen->identity);
    return length < 0 ? 0 : (unsigned int)length;
}

static unsigned int give_key13(WOLFSSL *connection, const char *hint, char *identity, unsigned int room, unsigned char *key,
                               unsigned int most, const char **suite)
{
    *suite = chosen->suite ? chosen->suite : "TLS13-AES128-GCM-SHA256";
    return give_key(connection, hint, identity, room, key, most);
}

static int told(const char *doing)
{
    char text[WOLFSSL_MAX_ERROR_SZ];
    int code = wolfSSL_get_error(ssl, 0);
    fprintf(stderr, "wolfSSL: %s: %s (%d)\n", doing, wolfSSL_ERR_error_string(code, text), code);
    return -1;
}

int tls_open(const struct options *options, struct facts *facts)
{
    static const unsigned char codes[] = { WOLFSSL_MFL_2_9, WOLFSSL_MFL_2_10, WOLFSSL_MFL_2_11, WOLFSSL_MFL_2_12 };
    int is13 = !options->version || strcmp(options->version, "1.2");
    chosen = options;
    if (!context) wolfSSL_Init();
    context = wolfSSL_CTX_new(is13 ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method());
    if (!context) return told("context");
    wolfSSL_CTX_SetIOSend(context, send_bytes);
    wolfSSL_CTX_SetIORecv(context, receive_bytes);
    if (options->suite && wolfSSL_CTX_set_cipher_list(context, options->suite) != WOLFSSL_SUCCESS) return told("suite");
    if (options->psk) {
        if (is13) wolfSSL_CTX_set_psk_client_tls13_callback(context, give_key13);
        else wolfSSL_CTX_set_psk_client_callback(context, give_key);
    } else if (wolfSSL_CTX_load_verify_locations(context, options->ca, NULL) != WOLFSSL_SUCCESS ||
               wolfSSL_CTX_use_certificate_chain_file(context, options->certificate) != WOLFSSL_SUCCESS ||
               wolfSSL_CTX_use_PrivateKey_file(context, options->key, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        fail("certificate files cannot be read", 0);
    for (int i = 0; i < 4; i++)
        if (options->max_fragment == 512 << i) wolfSSL_CTX_UseMaxFragment(context, codes[i]);
    if (options->again) wolfSSL_CTX_UseSessionTicket(context);
    ssl = wolfSSL_new(context);
    if (!ssl) return told("connection");
    if (options->ca) wolfSSL_check_domain_name(ssl, "localhost");
    if (kept) wolfSSL_set_session(ssl, kept);
    if (wolfSSL_connect(ssl) != WOLFSSL_SUCCESS) return told("handshake");
    facts->version = wolfSSL_get_version(ssl);
    facts->suite = wolfSSL_get_cipher_name(ssl);
    facts->resumed = kept != NULL && wolfSSL_session_reused(ssl);
    return 0;
}

int tls_write(const void *bytes, size_t count)
{
    return wolfSSL_write(ssl, bytes, (int)count) == (int)count ? 0 : told("write");
}

int tls_read(void *bytes, size_t room)
{
    int got = wolfSSL_read(ssl, bytes, (int)room);
    return got < 0 ? told("read") : got;
}

void tls_close(void)
{
    if (chosen->again && !kept) kept = wolfSSL_get1_session(ssl); /* by now the ticket of TLS 1.3 has come */
    wolfSSL_shutdown(ssl);
    wolfSSL_free(ssl);
    wolfSSL_CTX_free(context);
}

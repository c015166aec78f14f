/* The client of mbedTLS 2.28, which speaks TLS 1.2. */
#include "client.h"
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <string.h>

const char *const tls_library = "mbedTLS";
static mbedtls_ssl_context ssl;
static mbedtls_ssl_config config;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context random_source;
static mbedtls_x509_crt trusted, own;
static mbedtls_pk_context own_key;
static mbedtls_ssl_session kept;
static int has_kept;

static int send_bytes(void *context, const unsigned char *bytes, size_t count)
{
    (void)context;
    return link_send(bytes, count) < 0 ? MBEDTLS_ERR_SSL_CONN_EOF : (int)count;
}

static int receive_bytes(void *context, unsigned char *bytes, size_t room)
{
    int got = link_receive(bytes, room);
    (void)context;
    return got < 0 ? 0 : got;
}

static int told(int code)
{
    char text[160];
    mbedtls_strerror(code, text, sizeof text);
    fprintf(stderr, "mbedTLS: %s\n", text);
    return -1;
}

static void configure(const struct options *options)
{
    static int suites[2];
    static const unsigned char codes[] = { MBEDTLS_SSL_MAX_FRAG_LEN_512, MBEDTLS_SSL_MAX_FRAG_LEN_1024,
                                           MBEDTLS_SSL_MAX_FRAG_LEN_2048, MBEDTLS_SSL_MAX_FRAG_LEN_4096 };
    mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random_source);
    for (int i = 0; i < 4; i++)
        if (options->max_fragment == 512 << i) mbedtls_ssl_conf_max_frag_len(&config, codes[i]);
    if (options->suite) {
        suites[0] = mbedtls_ssl_get_ciphersuite_id(options->suite);
        mbedtls_ssl_conf_ciphersuites(&config, suites);
    }
    if (options->psk) {
        unsigned char key[64];
        int length = unhex(options->psk, key, sizeof key);
        mbedtls_ssl_conf_psk(&config, key, length, (const unsigned char *)options->identity, strlen(options->identity));
    } else {
        if (mbedtls_x509_crt_parse_file(&trusted, options->ca) || mbedtls_x509_crt_parse_file(&own, options->certificate) ||
            mbedtls_pk_parse_keyfile(&own_key, options->key, NULL))
            fail("certificate files cannot be read", 0);
        mbedtls_ssl_conf_ca_chain(&config, &trusted, NULL);
        mbedtls_ssl_conf_own_cert(&config, &own, &own_key);
        mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
    }
}

int tls_open(const struct options *options, struct facts *facts)
{
    int code;
    size_t before;
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random_source);
    mbedtls_x509_crt_init(&trusted);
    mbedtls_x509_crt_init(&own);
    mbedtls_pk_init(&own_key);
    if (mbedtls_ctr_drbg_seed(&random_source, mbedtls_entropy_func, &entropy, NULL, 0)) return -1;
    configure(options);
    if ((code = mbedtls_ssl_setup(&ssl, &config))) return told(code);
    mbedtls_ssl_set_bio(&ssl, NULL, send_bytes, receive_bytes, NULL);
    if (options->ca) mbedtls_ssl_set_hostname(&ssl, "localhost");
    before = 0;
    if (has_kept && (code = mbedtls_ssl_set_session(&ssl, &kept))) return told(code);
    while (ssl.state != MBEDTLS_SSL_HANDSHAKE_OVER) {
        if (ssl.state == MBEDTLS_SSL_SERVER_CERTIFICATE) before = 1; /* a step that a resumption leaves out */
        if ((code = mbedtls_ssl_handshake_step(&ssl))) return told(code);
    }
    facts->version = mbedtls_ssl_get_version(&ssl);
    facts->suite = mbedtls_ssl_get_ciphersuite(&ssl);
    facts->resumed = has_kept && !before;
    if (options->again && !has_kept) {
        mbedtls_ssl_session_init(&kept);
        has_kept = !mbedtls_ssl_get_session(&ssl, &kept);
    }
    return 0;
}

int tls_write(const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    while (count) {
        int written = mbedtls_ssl_write(&ssl, at, count);
        if (written <= 0) return told(written);
        at += written;
        count -= written;
    }
    return 0;
}

int tls_read(void *bytes, size_t room)
{
    int got = mbedtls_ssl_read(&ssl, bytes, room);
    return got < 0 ? told(got) : got;
}

void tls_close(void)
{
    mbedtls_ssl_close_notify(&ssl);
    mbedtls_ssl_free(&ssl);
    mbedtls_ssl_config_free(&config);
    mbedtls_x509_crt_free(&trusted);
    mbedtls_x509_crt_free(&own);
    mbedtls_pk_free(&own_key);
    mbedtls_ctr_drbg_free(&random_source);
    mbedtls_entropy_free(&entropy);
}

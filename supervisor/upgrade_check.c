/*
 * upgrade_check.c: hasupd --upgrade-check is a child of the hasupd that would be replaced, with a
 * copy of what it would hand over.  Here is what it looks at first: the format, the models, the
 * core's invariants and limits, with words for a person.  Then main.c rehearses the rest.  Touches
 * nothing.  An assertion that fails is a "no".
 */
#include "supervisor/config.h"
#include "supervisor/engine.h"
#include "supervisor/upgrade.h"

#include <stdlib.h>

static int check_core(struct carry *carry, const struct config *config, char why[UPGRADE_TEXT])
{
    const struct core_limits limits = engine_limits(config);
    const uint8_t *bytes = NULL;
    const char *wrong = NULL;
    size_t len = 0;
    carry->codec.what = "its core";
    codec_begin(&carry->codec);
    codec_bytes(&carry->codec, &bytes, &len);
    codec_end(&carry->codec);
    struct core *core = core_load(&limits, bytes, len, &wrong);
    if (!core) {
        snprintf(why, UPGRADE_TEXT, "%s (hasupctl upgrade needs the limits that hasupd began with)",
                 wrong);
        return HASUP_EPROTO;
    }
    core_check(core);
    core_free(core);
    return 0;
}

int upgrade_check(int fd, const char *config_file, char why[UPGRADE_TEXT])
{
    struct takeover takeover;
    struct config *config = config_load(config_file, why);
    int failed = config ? takeover_begin(&takeover, fd, why) : HASUP_ECONFIG;
    if (config && !failed) {
        takeover.carry.dry = true;
        upgrade_head_carry(&takeover.carry, &takeover);
        engine_names_carry(&takeover.carry, config, NULL);
        failed = takeover.carry.codec.failed ? HASUP_EPROTO
                                             : check_core(&takeover.carry, config, why);
        if (takeover.carry.codec.failed)
            snprintf(why, UPGRADE_TEXT, "it does not know %s", takeover.carry.codec.failed);
        if (!failed && (takeover.http >= 0) != (config->listen_http != NULL)) {
            snprintf(why, UPGRADE_TEXT,
                     "listen.http came or went in the configuration, which needs a restart");
            failed = HASUP_ECONFIG;
        }
        const char *key = config_off_differs(takeover.off, config_off(config));
        if (!failed && key) {
            snprintf(why, UPGRADE_TEXT,
                     "%s came or went in the configuration, which needs a restart", key);
            failed = HASUP_ECONFIG;
        }
        takeover_free(&takeover);
    }
    config_free(config);
    return failed;
}

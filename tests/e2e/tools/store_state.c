/* store_state.c: store-state DB MODEL SLOT: the newest good state of a slot, to stdout; its
 * position to stderr. */
#include "checkpoints/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    char error[STORE_ERROR] = "";
    struct store *store;
    struct checkpoint_info info;
    uint8_t *bytes;
    if (argc != 4 || store_open(argv[1], STORE_READ, &store, error)) {
        fprintf(stderr, "store-state: %s\n", argc == 4 ? error : "DB MODEL SLOT");
        return 2;
    }
    struct checkpoint_key key = {argv[2], (uint32_t)strtoul(argv[3], NULL, 10)};
    int code = store_load(store, &key, &info, &bytes, NULL, NULL, error);
    store_close(store);
    if (code) {
        fprintf(stderr, "store-state: %s\n", error);
        return 1;
    }
    fprintf(stderr, "%" PRIu64 "\n", info.position);
    bool written = fwrite(bytes, 1, info.len, stdout) == info.len && fflush(stdout) == 0;
    free(bytes);
    return written ? 0 : 1;
}

/* A core is saved and loaded: it goes on as if nothing had happened, and no bytes can harm it.
 * That no field is forgotten is shown by the simulator (hasup-sim --handover). */
#include "tests/unit/core_world.h"

#include "supervisor/core/codec.h"

enum { SUM = 8 };

static uint8_t *save(const struct world *w, size_t *len)
{
    *len = core_save(w->core, NULL, 0);
    uint8_t *bytes = malloc(*len);
    assert_non_null(bytes);
    assert_int_equal(core_save(w->core, bytes, *len), *len);
    return bytes;
}

static void sum_again(uint8_t *bytes, size_t len)
{
    uint64_t sum = codec_sum(bytes, len - SUM);
    memcpy(bytes + len - SUM, &sum, SUM);
}

/* One in flight, one behind it, one that streams; a body under suspicion. */
static uint64_t busy(struct world *w)
{
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w)); /* a healthy run: the next one begins at once */
    uint64_t first = submit(w);
    chunks(w, 0, first, 10, true);
    dies(w, 0);
    comes_up(w, 0, 1);
    submit(w);
    submit_as(w, w->now + HASUP_S, 9, 10);
    return first;
}

static void hand_over(struct world *w)
{
    const char *why;
    size_t len;
    uint8_t *bytes = save(w, &len);
    struct core *loaded = core_load(&WORLD_LIMITS, bytes, len, &why);
    assert_non_null(loaded);
    core_check(loaded);
    core_check_loaded(w->core, loaded);
    core_free(w->core);
    w->core = loaded;
    free(bytes);
}

static void what_was_in_flight_goes_on_in_the_next_core(void **state)
{
    struct world *w = *state;
    uint64_t stream = busy(w);
    hand_over(w);
    chunks(w, 0, stream, 12, true); /* the second run comes past what the first delivered */
    assert_int_equal(seen(w, ACTION_CHUNK)->chunk.skip, 10);
    replies(w, 0, stream);
    assert_int_equal(seen_of(w, ACTION_ANSWER, stream)->answer.attempts, 2);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 1);
}

static void a_deadline_holds_in_the_next_core(void **state)
{
    struct world *w = *state;
    busy(w);
    hand_over(w);
    world_pass(w, 2 * HASUP_S);
    assert_int_equal(seen(w, ACTION_REFUSE)->refuse.why, REFUSED_DEADLINE);
}

static void the_same_core_gives_the_same_bytes(void **state)
{
    struct world *w = *state;
    size_t len, again;
    busy(w);
    uint8_t *first = save(w, &len);
    hand_over(w);
    uint8_t *second = save(w, &again);
    assert_int_equal(len, again);
    assert_memory_equal(first, second, len);
    free(first);
    free(second);
}

static void too_little_room_is_told_and_kept(void **state)
{
    struct world *w = *state;
    uint8_t few[16];
    busy(w);
    memset(few, 0xee, sizeof few);
    assert_true(core_save(w->core, few, 9) > 9);
    assert_int_equal(few[9], 0xee);
}

static void what_is_cut_off_or_damaged_is_refused(void **state)
{
    struct world *w = *state;
    const char *why;
    size_t len;
    busy(w);
    uint8_t *bytes = save(w, &len);
    for (size_t cut = 0; cut < len; cut += 1 + cut / 64)
        assert_null(core_load(&WORLD_LIMITS, bytes, cut, &why));
    for (size_t at = 0; at < len; at += 1 + at / 64) {
        bytes[at] ^= 0x10;
        assert_null(core_load(&WORLD_LIMITS, bytes, len, &why));
        assert_non_null(why);
        bytes[at] ^= 0x10;
    }
    free(bytes);
}

/* As by somebody who can add up: it is refused or not, and nothing outside of the tables is
 * touched, which the sanitizers see. */
static void what_lies_harms_nobody(void **state)
{
    struct world *w = *state;
    const char *why;
    size_t len;
    busy(w);
    uint8_t *bytes = save(w, &len);
    for (size_t at = 0; at < len - SUM; at += 1 + at / 256)
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[at] ^= (uint8_t)(1u << bit);
            sum_again(bytes, len);
            core_free(core_load(&WORLD_LIMITS, bytes, len, &why));
            bytes[at] ^= (uint8_t)(1u << bit);
        }
    sum_again(bytes, len);
    struct core *loaded = core_load(&WORLD_LIMITS, bytes, len, &why);
    assert_non_null(loaded);
    core_free(loaded);
    free(bytes);
}

static void other_limits_are_named(void **state)
{
    struct world *w = *state;
    struct core_limits others = WORLD_LIMITS;
    const char *why;
    size_t len;
    uint8_t *bytes = save(w, &len);
    others.slots++;
    assert_null(core_load(&others, bytes, len, &why));
    assert_non_null(strstr(why, "limits"));
    free(bytes);
}

/* ---- records of other versions ---- */

struct pair {
    uint32_t first, second;
};

static void old_code(struct codec *codec, struct pair *pair)
{
    codec_begin(codec);
    V(pair->first);
    codec_end(codec);
}

static void new_code(struct codec *codec, struct pair *pair)
{
    codec_begin(codec);
    V(pair->first);
    V(pair->second);
    codec_end(codec);
}

static void a_field_that_an_older_version_had_not_is_0(void **state)
{
    struct pair pair = {7, 9};
    struct codec codec;
    uint8_t bytes[32];
    (void)state;
    codec_save(&codec, bytes, sizeof bytes);
    old_code(&codec, &pair);
    codec_load(&codec, bytes, codec.used);
    new_code(&codec, &pair);
    assert_null(codec.failed);
    assert_int_equal(pair.first, 7);
    assert_int_equal(pair.second, 0);
}

static void a_field_that_a_newer_version_has_is_refused_unless_it_is_0(void **state)
{
    struct pair pair = {7, 9};
    struct codec codec;
    uint8_t bytes[32];
    (void)state;
    codec_save(&codec, bytes, sizeof bytes);
    new_code(&codec, &pair);
    codec_load(&codec, bytes, codec.used);
    old_code(&codec, &pair);
    assert_non_null(codec.failed);
    pair.second = 0;
    codec_save(&codec, bytes, sizeof bytes);
    new_code(&codec, &pair);
    codec_load(&codec, bytes, codec.used);
    old_code(&codec, &pair);
    assert_null(codec.failed);
}

static void gap_code(struct codec *codec, struct pair *pair)
{
    codec_begin(codec);
    codec_gap(codec);
    V(pair->second);
    codec_end(codec);
}

static void a_field_that_is_gone_leaves_its_number(void **state)
{
    struct pair pair = {0, 9}, got = {1, 1};
    struct codec codec;
    uint8_t bytes[32];
    (void)state;
    codec_save(&codec, bytes, sizeof bytes);
    new_code(&codec, &pair);
    codec_load(&codec, bytes, codec.used);
    gap_code(&codec, &got);
    assert_null(codec.failed);
    assert_int_equal(got.second, 9);
    pair.first = 7; /* what this version cannot keep */
    codec_save(&codec, bytes, sizeof bytes);
    new_code(&codec, &pair);
    codec_load(&codec, bytes, codec.used);
    gap_code(&codec, &got);
    assert_non_null(codec.failed);
}

static void bytes_go_both_ways_and_never_past_the_end(void **state)
{
    const uint8_t word[] = "word", *at = word;
    struct codec codec;
    uint8_t bytes[16];
    size_t len = sizeof word;
    (void)state;
    codec_save(&codec, bytes, sizeof bytes);
    codec_begin(&codec);
    codec_bytes(&codec, &at, &len);
    codec_end(&codec);
    for (size_t cut = codec.used; cut > 0; cut--) {
        struct codec in;
        codec_load(&in, bytes, cut);
        codec_begin(&in);
        codec_bytes(&in, &at, &len);
        codec_end(&in);
        assert_int_equal(!in.failed, cut == codec.used);
    }
    codec_load(&codec, bytes, codec.used);
    codec_begin(&codec);
    codec_bytes(&codec, &at, &len);
    assert_int_equal(len, sizeof word);
    assert_memory_equal(at, word, len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_was_in_flight_goes_on_in_the_next_core),
        STORY(a_deadline_holds_in_the_next_core),
        STORY(the_same_core_gives_the_same_bytes),
        STORY(too_little_room_is_told_and_kept),
        STORY(what_is_cut_off_or_damaged_is_refused),
        STORY(what_lies_harms_nobody),
        STORY(other_limits_are_named),
        STORY(a_field_that_an_older_version_had_not_is_0),
        STORY(a_field_that_a_newer_version_has_is_refused_unless_it_is_0),
        STORY(a_field_that_is_gone_leaves_its_number),
        STORY(bytes_go_both_ways_and_never_past_the_end),
    };
    return cmocka_run_group_tests_name("core_save", tests, NULL, NULL);
}

/* What a process is started with: placeholders leave other people's braces alone, files of
 * variables hold what docs/processes.md says, and what is wrong is told with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/config_envfile.h"
#include "supervisor/config_template.h"
#include "supervisor/config_tree.h"

static const struct template_values VALUES = {.model = "digits", .slot = 3};

/* ---- placeholders ---- */

static const struct {
    const char *text, *filled;
} filled[] = {
    {"--port={slot+8000}", "--port=8003"},
    {"{model}-{slot}.sock", "digits-3.sock"},
    {"{slot}{slot}", "33"},
    {"{slot+4294967295}", "4294967298"},
    {"{\"slot\": 1, \"model\": {\"a\": {}}}", "{\"slot\": 1, \"model\": {\"a\": {}}}"},
    {"{\"port\":{slot+8000}}", "{\"port\":8003}"},
    {"{}", "{}"},
    {"{", "{"},
    {"{slot", "{slot"},
    {"a{{b", "a{{b"},
    {"{port} {socket} {slot: 1}", "{port} {socket} {slot: 1}"},
    {"{slot:1} {slot:0} {slot:x} {slot:on} {model:m} {slot:}",
     "{slot:1} {slot:0} {slot:x} {slot:on} {model:m} {slot:}"},
    {"{{slot:03d}}", "{slot:03d}"},
    {"${slot} ${model} ${{slot}}", "${slot} ${model} ${{slot}}"},
    {"{{ model }} {{messages}} {% if slot %}", "{{ model }} {{messages}} {% if slot %}"},
    {"{{slot}} {{slot+1}} {{model}} {{slots}}", "{slot} {slot+1} {model} {slots}"},
    {"{{{model}}}", "{{model}}"},
    {"{%h} {time} {x+1} {metal}", "{%h} {time} {x+1} {metal}"},
    {"{mode} {{mode}} {lot} {plot} {modal}", "{mode} {{mode}} {lot} {plot} {modal}"},
    {"", ""},
};

static void only_placeholders_are_replaced(void **state)
{
    (void)state;
    char error[TEMPLATE_ERROR];
    for (size_t i = 0; i < HASUP_LEN(filled); i++) {
        char *got = template_fill(filled[i].text, &VALUES);
        assert_string_equal(got, filled[i].filled);
        free(got);
        if (!template_check(filled[i].text, error))
            fail_msg("%s: %s", filled[i].text, error);
    }
}

static void what_is_nearly_a_placeholder_is_a_mistake(void **state)
{
    (void)state;
    static const char *const near[] = {
        "{slots}", "{slto}", "{SLOT}", "{ slot }", "{slot-1}", "{slot +8000}", "{slot+}",
        "{slot*2}", "{slot+99999999999}", "{slot+4294967296}", "{models}", "{Model}", "{modle}",
        "x{slot}{slots}", "{model+1}", "{slot:03d}", "{slot:02}", "{slot:d}", "{slot:3d}",
        "{slot:>4}", "{slot:04x}", "{slot+8000:05d}"};
    char error[TEMPLATE_ERROR];
    for (size_t i = 0; i < HASUP_LEN(near); i++)
        if (template_check(near[i], error))
            fail_msg("accepted: %s", near[i]);
    assert_false(template_check("{slot:03d}", error));
    assert_string_equal(error, "there is no {slot:03d}; did you mean {slot}? {{slot:03d}} stands "
                               "for {slot:03d} itself");
    assert_false(template_check("--id={slots}", error));
    assert_string_equal(error, "there is no {slots}; did you mean {slot}? {{slots}} stands for "
                               "{slots} itself");
}

/* ---- files of variables ---- */

static int parse(const char *text, struct envfiles *files, char error[ENVFILE_ERROR])
{
    char *copy = strdup(text);
    *files = (struct envfiles){0};
    int failed = envfile_parse(copy, strlen(copy), "f.env", files, error);
    free(copy);
    return failed;
}

static void files_of_variables_hold_what_the_page_says(void **state)
{
    (void)state;
    struct envfiles files;
    char error[ENVFILE_ERROR];
    static const struct {
        const char *line, *variable;
    } lines[] = {
        {"A=value", "A=value"},
        {"  A=  a b #c \t", "A=a b #c"},
        {"A=", "A="},
        {"A=x\r", "A=x"},
        {"A=it's \"so\"", "A=it's \"so\""},
        {"A=C:\\new\\dir", "A=C:\\new\\dir"},
        {"A=$HOME/{slot}", "A=$HOME/{slot}"},
        {"A=a=b", "A=a=b"},
        {"A=' a # \\\" '", "A= a # \\\" "},
        {"A=\" a \\\"b\\\" \\\\ \\$x \\` \\n \"  ", "A= a \"b\" \\ $x ` \\n "},
        {"A='-----BEGIN\nline\n\n-----END'", "A=-----BEGIN\nline\n\n-----END"},
        {"A=\"one \\\ntwo\"", "A=one two"},
        {"A=''", "A="},
        {"\xef\xbb\xbf" "A=1", "A=1"},
        {"# A=1\n  ; B=2\n\n \t\r\nC=3\n\n", "C=3"},
        {"spring.data-url=x", "spring.data-url=x"},
    };
    for (size_t i = 0; i < HASUP_LEN(lines); i++) {
        if (parse(lines[i].line, &files, error))
            fail_msg("%s: %s", lines[i].line, error);
        assert_int_equal(files.count, 1);
        assert_string_equal(files.list[0], lines[i].variable);
        assert_null(files.list[1]);
        envfiles_free(&files);
    }
}

/* Nothing of a value is ever shown. */
static void what_is_wrong_in_a_file_is_told_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } wrong[] = {
        {"A=1\n\n# x\nsecret\n", "f.env:4: expected NAME=VALUE, and there is no \"=\""},
        {"export A=1\n", "f.env:1: no shell reads this: leave \"export\" out"},
        {"A =1\n", "f.env:1: before the \"=\" stands a name, without blanks, of letters, digits, "
                   "\"_\", \".\" and \"-\""},
        {"=1\n", "f.env:1: before the \"=\" stands a name, without blanks, of letters, digits, "
                 "\"_\", \".\" and \"-\""},
        {"1A=1\n", "f.env:1: before the \"=\" stands a name, without blanks, of letters, digits, "
                   "\"_\", \".\" and \"-\""},
        {"HASUP_FD=3\n", "f.env:1: names that begin with HASUP_ are set by hasupd"},
        {"A=1\nB=\"secret\nand more\n", "f.env:2: the quote that opens here is never closed"},
        {"A='x\ny' z\n", "f.env:2: something stands behind the quote"},
    };
    for (size_t i = 0; i < HASUP_LEN(wrong); i++) {
        struct envfiles files;
        char error[ENVFILE_ERROR] = "";
        assert_int_equal(parse(wrong[i].text, &files, error), HASUP_ECONFIG);
        assert_string_equal(error, wrong[i].error);
        envfiles_free(&files);
    }
    char zero[] = "A=1\nB=\0x\n", error[ENVFILE_ERROR];
    struct envfiles files = {0};
    assert_int_equal(envfile_parse(zero, sizeof zero - 1, "f.env", &files, error), HASUP_ECONFIG);
    assert_string_equal(error, "f.env:2: there is a NUL byte: is it a file of variables?");
    envfiles_free(&files);
}

static void put_file(const char *path, const char *text, size_t times)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    for (size_t i = 0; i < times; i++)
        assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static void files_are_read_in_their_order_and_bounded(void **state)
{
    (void)state;
    char directory[] = "/tmp/hasup-starts-XXXXXX", error[ENVFILE_ERROR];
    assert_non_null(mkdtemp(directory));
    assert_int_equal(chdir(directory), 0);
    put_file("a.env", "A=1\nB=1\n", 1);
    put_file("b3.env", "B=2\n", 1);
    put_file("large.env", "# a comment that is of no use\n", 4096);
    put_file("many.env", "A=1\n", ENVFILE_VARIABLES + 1);
    assert_int_equal(mkfifo("pipe.env", 0600), 0);
    struct envfiles files;
    char *both[] = {"a.env", "-none.env", "b{slot}.env", NULL};
    assert_int_equal(envfiles_read(both, &VALUES, &files, error), 0);
    assert_int_equal(files.count, 3);
    assert_string_equal(files.list[2], "B=2");
    envfiles_free(&files);
    assert_int_equal(envfiles_read(NULL, &VALUES, &files, error), 0);
    assert_null(files.list);
    static const struct {
        char *path;
        int failed;
        const char *error;
    } wrong[] = {
        {"none.env", ENOENT, "none.env: No such file or directory"},
        {"large.env", EFBIG, "large.env: is larger than 64KiB"},
        {"many.env", EINVAL, "many.env:1025: more than 1024 variables, with those before it"},
        {"pipe.env", EINVAL, "pipe.env: is not a file"},
        {"-.", EINVAL, ".: is not a file"},
    };
    for (size_t i = 0; i < HASUP_LEN(wrong); i++) {
        char *one[] = {wrong[i].path, NULL};
        assert_int_equal(envfiles_read(one, &VALUES, &files, error), wrong[i].failed);
        assert_string_equal(error, wrong[i].error);
        assert_null(files.list);
    }
    static const char *const made[] = {"a.env", "b3.env", "large.env", "many.env", "pipe.env"};
    for (size_t i = 0; i < HASUP_LEN(made); i++)
        unlink(made[i]);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(rmdir(directory), 0);
}

/* ---- the configuration ---- */

#define MODEL "models:\n  digits:\n    command: [x]\n"

static const struct {
    const char *text, *error;
} mistakes[] = {
    {"models: {a: {command: [x, '--port={slot+}']}}\n",
     "f.yaml:1:27: models.a.command: there is no {slot+}; did you mean {slot}? {{slot+}} stands "
     "for {slot+} itself"},
    {MODEL "    directory: 'state-{slots}'\n",
     "f.yaml:4:16: models.digits.directory: there is no {slots}; did you mean {slot}? {{slots}} "
     "stands for {slots} itself"},
    {MODEL "    environment: {PORT: '{slot-1}'}\n",
     "f.yaml:4:25: models.digits.environment.PORT: there is no {slot-1}; did you mean {slot}? "
     "{{slot-1}} stands for {slot-1} itself"},
    {MODEL "    pre_start: {command: [y, '{modle}']}\n",
     "f.yaml:4:30: models.digits.pre_start.command: there is no {modle}; did you mean {model}? "
     "{{modle}} stands for {modle} itself"},
    {MODEL "    environment_files: ['{ slot }.env']\n",
     "f.yaml:4:25: models.digits.environment_files: there is no { slot }; did you mean {slot}? "
     "{{ slot }} stands for { slot } itself"},
    {MODEL "    environment: {PORT: {slot}}\n",
     "f.yaml:4:25: models.digits.environment.PORT: expected text; found keys: in quotes it is "
     "text, \"{slot}\""},
    {MODEL "    environment_files: a.env\n",
     "f.yaml:4:24: models.digits.environment_files: expected a list of words; found text: write "
     "[a.env]"},
    {MODEL "    environment_files: []\n",
     "f.yaml:4:24: models.digits.environment_files: expected a list of paths such as [some/file]; "
     "found an empty list"},
    {MODEL "    sockets: {web: {tpc: '127.0.0.1:80'}}\n",
     "f.yaml:4:21: models.digits.sockets.web.tpc: unknown key; did you mean \"tcp\"?\n"
     "f.yaml:4:20: models.digits.sockets.web: expected where it listens: tcp: ADDRESS:PORT, or "
     "unix: PATH"},
    {MODEL "    sockets: {'a:b': {unix: a, mode: rw}}\n",
     "f.yaml:4:22: models.digits.sockets.a:b: a socket's name has 1 to 63 letters, digits, '.', "
     "'_', '-'\n"
     "f.yaml:4:22: models.digits.sockets.a:b: mode: expected octal digits such as \"0660\"; found "
     "\"rw\""},
    {MODEL "    sockets: {a: {tcp: '80', mode: '0600'}}\n",
     "f.yaml:4:18: models.digits.sockets.a: mode is a Unix socket's\n"
     "f.yaml:4:18: models.digits.sockets.a: tcp: expected ADDRESS:PORT such as 127.0.0.1:8080; "
     "found \"80\": there is no port of 1 to 65535, or 0 for any that is free"},
    {MODEL "    sockets: {a: {tcp: '[::1]:99999'}}\n",
     "f.yaml:4:18: models.digits.sockets.a: tcp: expected ADDRESS:PORT such as 127.0.0.1:8080; "
     "found \"[::1]:99999\": there is no port of 1 to 65535, or 0 for any that is free"},
    {MODEL "    sockets: {a: {tcp: 'example.com:80'}}\n",
     "f.yaml:4:18: models.digits.sockets.a: tcp: expected ADDRESS:PORT such as 127.0.0.1:8080; "
     "found \"example.com:80\": names are not looked up: write an IPv4 address, [an IPv6 address] "
     "or localhost"},
    {MODEL "    socket: {a: {unix: x}}\n",
     "f.yaml:4:5: models.digits.socket: unknown key; did you mean \"sockets\" or "
     "\"adapter.socket\"?"},
    {"models:\n  digits:\n    command: [x, --port={slot+8000}]\n",
     "f.yaml:3:25: did not find expected ',' or ']'; with braces in it, this needs quotes: "
     "\"--port={slot+8000}\""},
    {"models:\n  digits: # \xc3\xa9\n    command: [x, \xc3\xa9, {slot+8000}.log]\n",
     "f.yaml:3:32: did not find expected ',' or ']'; with braces in it, this needs quotes: "
     "\"{slot+8000}.log\""},
    {MODEL "    environment: {A: x{model}-{slot}}\n",
     "f.yaml:4:23: did not find expected ',' or '}'; with braces in it, this needs quotes: "
     "\"x{model}-{slot}\""},
    {MODEL "    directory: {slot}/x\n",
     "f.yaml:4:22: did not find expected key; with braces in it, this needs quotes: \"{slot}/x\""},
    {MODEL "    environment: {A: x{y}}\n", "f.yaml:4:23: did not find expected ',' or '}'"},
    {MODEL "    sockets: [a]\n",
     "f.yaml:4:14: models.digits.sockets: expected up to 16 names such as {http: {tcp: "
     "'127.0.0.1:8000'}}"},
    {MODEL "    sockets: {a: {unix: x}, b: {unix: ./x}}\n",
     "f.yaml:4:32: models.digits.sockets.b: digits has a socket at this address, too"},
    {MODEL "    sockets: {a: {tcp: 'localhost:80'}, b: {tcp: '127.0.0.1:80'}}\n",
     "f.yaml:4:44: models.digits.sockets.b: digits has a socket at this address, too"},
    {MODEL "    sockets: {a: {unix: '/s-{slot}'}}\n    process: {read_only_paths: ['/{model}']}\n",
     "f.yaml:5:32: models.digits.process.read_only_paths: \"/{model}\" is the same for all slots: "
     "no placeholder is replaced here\n"
     "f.yaml:4:14: models.digits.sockets: \"/s-{slot}\" is the same for all slots: no placeholder "
     "is replaced here"},
    {MODEL "    sockets: {a: {unix: x}}\n    adapter: {kind: http}\n",
     "f.yaml:4:18: models.digits.sockets.a: an adapter's server listens where adapter.port or "
     "adapter.socket says"},
    {"runtime_dir: /tmp/run\n" MODEL
     "    process: {private_tmp: 1MiB}\n    adapter: {kind: http}\n",
     "f.yaml:5:28: models.digits.process.private_tmp: hides runtime_dir, /tmp/run, where the "
     "socket of its adapter is: put that elsewhere"},
    {MODEL "    environment_files: [a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a]\n",
     "f.yaml:4:24: models.digits.environment_files: at most 16 files; found 17"},
};

static void every_mistake_is_named_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(mistakes); i++) {
        char error[CONFIG_ERROR_MAX];
        struct config *config = config_parse(mistakes[i].text, strlen(mistakes[i].text), "f.yaml",
                                             "/etc/hasup", error);
        if (config)
            fail_msg("accepted:\n%s", mistakes[i].text);
        assert_string_equal(error, mistakes[i].error);
    }
}

static void paths_of_files_are_relative_to_the_configuration(void **state)
{
    (void)state;
    static const char text[] = MODEL "    environment_files: [a.env, -b.env, -/c.env, ./-d.env]\n";
    char error[CONFIG_ERROR_MAX];
    struct config *config = config_parse(text, strlen(text), "f.yaml", "/etc/hasup", error);
    assert_non_null(config);
    char **files = config->models[0].environment_files;
    assert_string_equal(files[0], "/etc/hasup/a.env");
    assert_string_equal(files[1], "-/etc/hasup/b.env");
    assert_string_equal(files[2], "-/c.env");
    assert_string_equal(files[3], "/etc/hasup/-d.env");
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_placeholders_are_replaced),
        cmocka_unit_test(what_is_nearly_a_placeholder_is_a_mistake),
        cmocka_unit_test(files_of_variables_hold_what_the_page_says),
        cmocka_unit_test(what_is_wrong_in_a_file_is_told_with_its_line),
        cmocka_unit_test(files_are_read_in_their_order_and_bounded),
        cmocka_unit_test(every_mistake_is_named_with_its_place),
        cmocka_unit_test(paths_of_files_are_relative_to_the_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

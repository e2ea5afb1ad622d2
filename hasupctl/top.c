/*
 * top.c: hasupctl top: asks hasupd for its status again and again and writes the lines of
 * toplines.c to the terminal.  The only file that knows ncurses; it decides nothing of what is
 * shown.  Signals arrive only while it waits, so that none is missed between a look and a wait.
 */
#include "hasupctl/hasupctl.h"
#include "hasupctl/top.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MS = 1000, SILENT_MS = 3000, ESCAPE_MS = 25 };

struct top {
    const struct ctl *ctl;
    int64_t delay_ms, next_ms, asked_ms; /* when to ask; when the question left */
    int64_t lost_ms;                     /* since when it is away; 0: it is not */
    bool asked, leaving, changed;
    struct hasup_client *client; /* NULL: not connected */
    char why[256], trouble[320];
    struct top_view view;
};

static volatile sig_atomic_t told_to_leave, told_of_size;

static void leave(int signo)
{
    (void)signo;
    told_to_leave = 1;
}

static void resized(int signo)
{
    (void)signo;
    told_of_size = 1;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* ---- hasupd ---- */

static void lose(struct top *top, const char *why)
{
    int64_t now = now_ms();
    hasup_client_close(top->client);
    top->client = NULL;
    top->asked = false;
    top->changed = true;
    snprintf(top->why, sizeof top->why, "%s", why);
    if (!top->lost_ms)
        top->lost_ms = now;
    top->next_ms = now + (top->delay_ms < RETRY_MS ? top->delay_ms : RETRY_MS);
}

static void ask(struct top *top)
{
    char path[108], error[256];
    uint64_t id;
    const char *socket = top->ctl->socket ? top->ctl->socket : hasup_client_default_path(path);
    top->asked_ms = now_ms();
    if (!top->client)
        top->client = hasup_client_open(socket, error);
    if (!top->client) {
        lose(top, error);
        return;
    }
    int failed = hasup_client_control(top->client, "{\"verb\":\"status\",\"measure\":true}", &id);
    if (!failed)
        failed = hasup_client_flush(top->client);
    top->asked = true;
    if (failed < 0)
        lose(top, hasup_strerror(failed));
}

static void take(struct top *top)
{
    struct hasup_client_answer got;
    int came = hasup_client_wait(top->client, 0, &got);
    if (came == 0)
        return;
    json_t *status = came > 0 && got.status == 200
                         ? json_loadb((const char *)got.body, got.len, 0, NULL)
                         : NULL;
    if (!status) {
        lose(top, came < 0 ? hasup_strerror(came) : got.error[0] ? got.error : "it refused");
        return;
    }
    json_decref(top->view.status);
    top->view.status = status;
    top->lost_ms = 0;
    top->asked = false;
    top->changed = true;
    top->next_ms = top->asked_ms + top->delay_ms;
}

/* What the second line says where the status is old. */
static const char *trouble(struct top *top)
{
    char since[32];
    int64_t now = now_ms();
    if (top->lost_ms)
        snprintf(top->trouble, sizeof top->trouble, "hasupd is away for %s, trying again: %s",
                 ctl_duration(now - top->lost_ms, since), top->why);
    else if (top->asked && now - top->asked_ms >= SILENT_MS)
        snprintf(top->trouble, sizeof top->trouble, "no answer from hasupd for %s",
                 ctl_duration(now - top->asked_ms, since));
    else
        return top->view.status ? NULL : "asking hasupd";
    return top->trouble;
}

/* ---- the screen ---- */

static int attributes(const struct top *top, enum top_style style)
{
    int colour = top->ctl->colour && has_colors() ? (int)COLOR_PAIR(style) : 0;
    switch (style) {
    case TOP_MODEL: return (int)A_BOLD;
    case TOP_TITLE: return (int)A_REVERSE;
    case TOP_DIM: return (int)A_DIM;
    case TOP_GOOD:
    case TOP_BUSY: return colour;
    case TOP_BAD: return (int)A_BOLD | colour;
    case TOP_PLAIN: break;
    }
    return 0;
}

static void put(void *to, int y, const struct top_line *line)
{
    const struct top *top = to;
    attrset(attributes(top, line->style));
    mvaddnstr(y, 0, line->text, COLS);
    if (line->state_len) {
        attrset(attributes(top, line->state));
        mvaddnstr(y, line->state_at, line->text + line->state_at, line->state_len);
    }
    attrset(0);
}

static void fit(struct top *top)
{
    struct winsize size;
    told_of_size = 0;
    top->changed = true;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
        resizeterm(size.ws_row, size.ws_col);
}

static void draw(struct top *top)
{
    top->view.width = COLS;
    top->view.height = LINES;
    top->view.trouble = trouble(top);
    top->changed = false;
    erase();
    top_draw(&top->view, put, top);
    refresh();
}

static void on_key(struct top *top, int key)
{
    struct top_view *view = &top->view;
    int page = view->height > 5 ? view->height - 5 : 1;
    switch (key) {
    case 'q': top->leaving = true; break;
    case 'h':
    case '?':
        view->help = !view->help;
        view->scroll = 0;
        break;
    case ' ': top->next_ms = 0; break;
    case KEY_UP: view->scroll--; break;
    case KEY_DOWN: view->scroll++; break;
    case KEY_PPAGE: view->scroll -= page; break;
    case KEY_NPAGE: view->scroll += page; break;
    case KEY_HOME: view->scroll = 0; break;
    case KEY_END: view->scroll = INT32_MAX / 2; break;
    default:
        if (top_sort_key(key, &view->sort)) {
            view->scroll = 0;
            view->help = false;
        }
        break;
    }
    top->changed = true;
}

/* ---- the loop ---- */

/* Until a key, an answer, a signal, or the time to ask or to say how long nobody answered. */
static void wait_for_something(struct top *top, const sigset_t *waiting)
{
    int64_t left = top->asked ? RETRY_MS : top->next_ms - now_ms();
    if (top->lost_ms && left > RETRY_MS)
        left = RETRY_MS;
    struct timespec limit = {.tv_sec = left > 0 ? left / 1000 : 0,
                             .tv_nsec = left > 0 ? left % 1000 * 1000000 : 0};
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                            {.fd = top->client ? hasup_client_fd(top->client) : -1,
                             .events = POLLIN}};
    int key, ready = ppoll(fds, 2, &limit, waiting);
    if (ready < 0 && errno != EINTR)
        told_to_leave = 1;
    if (told_of_size)
        fit(top);
    if (ready > 0 && fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
        told_to_leave = 1; /* the terminal is gone */
    while (!told_to_leave && (key = getch()) != ERR)
        on_key(top, key);
    if (ready > 0 && fds[1].revents)
        take(top);
    if (ready == 0)
        top->changed = true;
}

static void run(struct top *top, const sigset_t *waiting)
{
    draw(top);
    while (!top->leaving && !told_to_leave) {
        if (!top->asked && now_ms() >= top->next_ms)
            ask(top);
        if (top->changed)
            draw(top);
        wait_for_something(top, waiting);
    }
}

/* Those that end it and that of a resize come only in ppoll.  ncurses keeps handlers that it
 * finds. */
static void catch_signals(sigset_t *waiting)
{
    static const int LEAVING[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = leave}, size = {.sa_handler = resized};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGWINCH);
    sigaction(SIGWINCH, &size, NULL);
    for (size_t i = 0; i < HASUP_LEN(LEAVING); i++) {
        sigaction(LEAVING[i], &action, NULL);
        sigaddset(&blocked, LEAVING[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, waiting);
    for (size_t i = 0; i < HASUP_LEN(LEAVING); i++)
        sigdelset(waiting, LEAVING[i]);
    sigdelset(waiting, SIGWINCH);
}

static void prepare_screen(bool colour)
{
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    set_escdelay(ESCAPE_MS);
    curs_set(0);
    if (!colour || !has_colors())
        return;
    start_color();
    short ground = use_default_colors() == OK ? -1 : COLOR_BLACK;
    init_pair(TOP_GOOD, COLOR_GREEN, ground);
    init_pair(TOP_BUSY, COLOR_YELLOW, ground);
    init_pair(TOP_BAD, COLOR_RED, ground);
}

/* -d SECONDS; false: it is wrong. */
static bool read_delay(const struct ctl *ctl, int64_t *ms)
{
    char *end;
    if (ctl->argc == 0)
        return true;
    if (ctl->argc != 2 || strcmp(ctl->argv[0], "-d") != 0)
        return false;
    double seconds = strtod(ctl->argv[1], &end);
    if (*end || end == ctl->argv[1] || !(seconds >= 0.1 && seconds <= 3600))
        return false;
    *ms = (int64_t)(seconds * 1000);
    return true;
}

int ctl_top(const struct ctl *ctl)
{
    sigset_t waiting;
    const char *term = getenv("TERM");
    struct top top = {.ctl = ctl, .delay_ms = 1000, .changed = true};
    if (!read_delay(ctl, &top.delay_ms))
        return ctl_usage(ctl, "top takes -d SECONDS, from 0.1 to 3600, and no more");
    if (ctl->json)
        return ctl_usage(ctl, "top is for eyes; for JSON: hasupctl --json status");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return ctl_usage(ctl, "top needs a terminal; elsewhere: hasupctl status");
    catch_signals(&waiting);
    use_env(FALSE); /* the terminal's own size, not LINES and COLUMNS */
    use_tioctl(TRUE);
    /* Asked first: a newterm that fails keeps memory. */
    int known;
    bool usable = setupterm(NULL, STDOUT_FILENO, &known) == OK && del_curterm(cur_term) == OK;
    SCREEN *screen = usable ? newterm(NULL, stdout, stdin) : NULL;
    if (!screen)
        return ctl_usage(ctl, "TERM is %s, which terminfo does not know; hasupctl status does "
                         "without", term ? term : "not set");
    prepare_screen(ctl->colour);
    run(&top, &waiting);
    endwin();
    delscreen(screen);
    hasup_client_close(top.client);
    json_decref(top.view.status);
    return CTL_OK;
}

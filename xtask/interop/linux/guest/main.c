/* The checks of one mount.
 *
 *     checks run RESULTS CELL MOUNT-POINT SECOND-MOUNT-POINT
 *     checks again RESULTS CELL MOUNT-POINT
 *
 * `run` makes a directory for each check below MOUNT-POINT/CELL and writes a line for each to
 * RESULTS, `@ CELL NAME ok` or `@ CELL NAME failed WHY`. `again` is for a fresh mount afterwards:
 * what the checks left for the host must be there. Either ends with `@ CELL . end`. */
#include "check.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

/* Seconds of a check, under emulation on a busy machine. */
enum { LIMIT = 120, WHY = 400 };

const char *mount_point, *second_mount = "";
static int results, why;

void fail(const char *file, int line, const char *format, ...)
{
    char text[WHY];
    const char *base = strrchr(file, '/');
    int length = snprintf(text, sizeof text, "%s:%d: ", base ? base + 1 : file, line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, sizeof text - length, format, arguments);
    va_end(arguments);
    if (write(why, text, strlen(text)) < 0)
        _exit(2);
    _exit(1);
}

static void say(const char *cell, const char *name, const char *what)
{
    char line[WHY + 200];
    int length = snprintf(line, sizeof line, "@ %s %s %s", cell, name, what);
    for (int at = 0; at < length; at++)
        if (line[at] == '\n')
            line[at] = ' ';
    line[length++] = '\n';
    if (write(results, line, length) != length)
        exit(1);
}

static void run_check(const char *cell, const struct check *check)
{
    char text[WHY] = "failed ";
    int pipes[2];
    if (pipe(pipes)) {
        say(cell, check->name, "failed no pipe");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(pipes[0]);
        why = pipes[1];
        /* So that children that are left over can be ended. */
        setpgid(0, 0);
        alarm(LIMIT);
        WORKS(chdir(mount_point));
        WORKS(chdir(cell));
        WORKS(mkdir(check->name, 0755));
        WORKS(chdir(check->name));
        check->run();
        _exit(0);
    }
    close(pipes[1]);
    int status = 0;
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);
    size_t length = strlen(text);
    ssize_t got = read(pipes[0], text + length, sizeof text - length - 1);
    close(pipes[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        say(cell, check->name, "ok");
        return;
    }
    if (got <= 0)
        snprintf(text, sizeof text, "failed status 0x%x%s", status,
                 WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? ", no end in time" : "");
    say(cell, check->name, text);
}

static void look_again(void)
{
    int fd = WORKS(open("big_file/kept", O_RDONLY));
    expect_pattern(fd, 6 << 20, 1 << 20, 1);
    expect("symbolic_links/kept", "the target\n");
    HOLDS(look("hard_links/kept").st_nlink == 2);
    HOLDS((look("modes/kept").st_mode & 07777) == 04751);
    HOLDS(look("owners/kept").st_uid == 1234 && look("owners/kept").st_gid == 5678);
    HOLDS(look("times/kept").st_mtime == 981173106);
    HOLDS(look("big_directory/kept").st_nlink >= 2);
    HOLDS(access("big_directory/kept/entry-1999", F_OK) == 0);
    REFUSED(access("big_directory/kept/entry-0000", F_OK), ENOENT);
}

static const struct check again[] = {{"found_by_the_next_mount", look_again}};

int main(int count, char **arguments)
{
    if (count < 5) {
        fprintf(stderr, "usage: checks run|again RESULTS CELL MOUNT [SECOND]\n");
        return 2;
    }
    const char *cell = arguments[3];
    results = open(arguments[2], O_WRONLY | O_NOCTTY | O_CLOEXEC);
    mount_point = arguments[4];
    if (results < 0)
        return 1;
    umask(0);
    if (strcmp(arguments[1], "again") == 0) {
        /* In the directory above that of its own. */
        char text[WHY] = "failed ";
        int pipes[2];
        if (pipe(pipes))
            return 1;
        pid_t pid = fork();
        if (pid == 0) {
            why = pipes[1];
            alarm(LIMIT);
            WORKS(chdir(mount_point));
            WORKS(chdir(cell));
            again->run();
            _exit(0);
        }
        close(pipes[1]);
        int status = 0;
        waitpid(pid, &status, 0);
        if (status != 0 && read(pipes[0], text + strlen(text), sizeof text - 8) <= 0)
            strcat(text, "without a word");
        say(cell, again->name, status == 0 ? "ok" : text);
    } else {
        second_mount = count > 5 ? arguments[5] : "";
        const struct check *tables[] = {data_checks,      file_checks,      name_checks,
                                        directory_checks, attribute_checks, lock_checks,
                                        mapping_checks,   program_checks};
        for (size_t index = 0; index < sizeof tables / sizeof *tables; index++)
            for (const struct check *check = tables[index]; check->name; check++)
                run_check(cell, check);
        say(cell, ".", "end");
    }
    return 0;
}

/* Locks. Each side that holds or wants one is a process. */
#include "check.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

static struct flock range(short type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return lock;
}

static int lock_range(int fd, short type, off_t start, off_t length)
{
    struct flock lock = range(type, start, length);
    return fcntl(fd, F_SETLK, &lock);
}

/* A process that does `body` and then waits to be killed; back when `body` is done. */
static pid_t holder(void (*body)(void))
{
    int pipes[2];
    char byte;
    WORKS(pipe(pipes));
    pid_t pid = WORKS(fork());
    if (pid == 0) {
        close(pipes[0]);
        body();
        HOLDS(write(pipes[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    close(pipes[1]);
    if (read(pipes[0], &byte, 1) != 1)
        _exit(1);
    close(pipes[0]);
    return pid;
}

static void end(pid_t pid)
{
    WORKS(kill(pid, SIGKILL));
    WORKS(waitpid(pid, NULL, 0));
}

static void hold_exclusive(void)
{
    WORKS(flock(WORKS(open("file", O_RDWR)), LOCK_EX | LOCK_NB));
}

static void hold_shared(void)
{
    WORKS(flock(WORKS(open("file", O_RDONLY)), LOCK_SH | LOCK_NB));
}

static void whole_file_locks(void)
{
    put("file", "");
    int fd = WORKS(open("file", O_RDWR));
    pid_t pid = holder(hold_exclusive);
    REFUSED(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    REFUSED(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    end(pid);
    WORKS(flock(fd, LOCK_EX | LOCK_NB));
    WORKS(flock(fd, LOCK_UN));
    pid = holder(hold_shared);
    WORKS(flock(fd, LOCK_SH | LOCK_NB));
    REFUSED(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    end(pid);
    WORKS(flock(fd, LOCK_EX | LOCK_NB));
}

static void hold_range(void)
{
    WORKS(lock_range(WORKS(open("file", O_RDWR)), F_WRLCK, 100, 50));
}

static void ranges(void)
{
    put("file", "");
    int fd = WORKS(open("file", O_RDWR));
    pid_t pid = holder(hold_range);
    REFUSED(lock_range(fd, F_WRLCK, 149, 1), EAGAIN);
    REFUSED(lock_range(fd, F_RDLCK, 0, 0), EAGAIN);
    WORKS(lock_range(fd, F_WRLCK, 0, 100));
    WORKS(lock_range(fd, F_WRLCK, 150, 0));
    struct flock lock = range(F_WRLCK, 120, 1);
    WORKS(fcntl(fd, F_GETLK, &lock));
    HOLDS(lock.l_type == F_WRLCK && lock.l_start == 100 && lock.l_len == 50);
    HOLDS(lock.l_pid == pid);
    lock = range(F_WRLCK, 0, 100);
    WORKS(fcntl(fd, F_GETLK, &lock));
    HOLDS(lock.l_type == F_UNLCK);
    end(pid);
    WORKS(lock_range(fd, F_WRLCK, 0, 0));
}

static void hold_two_ranges(void)
{
    int fd = WORKS(open("file", O_RDWR));
    WORKS(lock_range(fd, F_WRLCK, 0, 100));
    WORKS(lock_range(fd, F_UNLCK, 40, 20));
    WORKS(lock_range(fd, F_RDLCK, 80, 20));
}

static void ranges_split(void)
{
    put("file", "");
    int fd = WORKS(open("file", O_RDWR));
    pid_t pid = holder(hold_two_ranges);
    WORKS(lock_range(fd, F_WRLCK, 40, 20));
    REFUSED(lock_range(fd, F_RDLCK, 39, 1), EAGAIN);
    REFUSED(lock_range(fd, F_WRLCK, 60, 1), EAGAIN);
    WORKS(lock_range(fd, F_RDLCK, 80, 20));
    REFUSED(lock_range(fd, F_WRLCK, 80, 20), EAGAIN);
    end(pid);
}

/* A lock of the process ends with the first of its descriptors that is closed. */
static void close_one_of_two(void)
{
    int fd = WORKS(open("file", O_RDWR)), other = WORKS(open("file", O_RDWR));
    WORKS(lock_range(fd, F_WRLCK, 0, 0));
    WORKS(close(other));
}

static void ended_by_close(void)
{
    put("file", "");
    pid_t pid = holder(close_one_of_two);
    WORKS(lock_range(WORKS(open("file", O_RDWR)), F_WRLCK, 0, 0));
    end(pid);
}

static void let_go_later(void)
{
    pid_t pid = WORKS(fork());
    if (pid == 0) {
        sleep(1);
        kill(getppid(), SIGKILL);
        _exit(0);
    }
    hold_range();
}

static void waiting(void)
{
    put("file", "");
    int fd = WORKS(open("file", O_RDWR));
    pid_t pid = holder(let_go_later);
    struct flock lock = range(F_WRLCK, 0, 0);
    WORKS(fcntl(fd, F_SETLKW, &lock));
    HOLDS(kill(pid, 0) == 0 && waitpid(pid, NULL, 0) == pid);
}

static void nothing(int signal)
{
    (void)signal;
}

static void waiting_interrupted(void)
{
    put("file", "");
    int fd = WORKS(open("file", O_RDWR));
    pid_t pid = holder(hold_range);
    struct sigaction action = {.sa_handler = nothing};
    WORKS(sigaction(SIGALRM, &action, NULL));
    alarm(2);
    struct flock lock = range(F_WRLCK, 0, 0);
    REFUSED(fcntl(fd, F_SETLKW, &lock), EINTR);
    alarm(60);
    end(pid);
    WORKS(lock_range(fd, F_WRLCK, 0, 0));
}

const struct check lock_checks[] = {
    {"whole_file_locks", whole_file_locks},
    {"ranges", ranges},
    {"ranges_split", ranges_split},
    {"ended_by_close", ended_by_close},
    {"waiting_for_a_lock", waiting},
    {"waiting_interrupted", waiting_interrupted},
    {NULL, NULL},
};

/* The least a task can cost: posix_spawn and wait, nothing else.
 *
 *   floor COUNT WIDTH PROGRAM [ARGUMENT...]
 *
 * WIDTH processes each run COUNT / WIDTH commands one after the other. Prints microseconds per command:
 * of wall, and of CPU of the spawning process itself.
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static double cpu(int who) {
    struct rusage u;
    getrusage(who, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static void run(long count, char **argv, int report) {
    for (long i = 0; i < count; i++) {
        pid_t pid;
        int status;
        if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
            _exit(1);
    }
    /* One write each, below PIPE_BUF, so that the processes' lines do not mix. */
    char line[32];
    int length = snprintf(line, sizeof line, "%.0f\n", cpu(RUSAGE_SELF));
    _exit(write(report, line, length) != length);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: floor COUNT WIDTH PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    long count = atol(argv[1]), width = atol(argv[2]);
    int ends[2];
    if (pipe(ends) != 0)
        return 1;
    double start = now();
    for (long i = 0; i < width; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0)
            run(count / width, argv + 3, ends[1]);
    }
    for (long i = 0; i < width; i++) {
        int status;
        if (wait(&status) < 0 || status != 0)
            return 1;
    }
    double wall = now() - start, own = 0;
    FILE *lines = fdopen(ends[0], "r");
    for (long i = 0; i < width; i++) {
        double part;
        if (fscanf(lines, "%lf", &part) != 1)
            return 1;
        own += part;
    }
    printf("%.1f %.1f\n", wall / (count / width * width), own / (count / width * width));
    return 0;
}

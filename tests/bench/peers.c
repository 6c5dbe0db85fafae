/* Talks with peers.py, one process for each peer: one line there, one line back.
   Whatever goes wrong on the other side, the benchmark goes on without it. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- another program ----------------------------------------------------- */

/* In the new process: pipes become stdin and stdout, the log stderr. */
static void become(const char *const *argv, const int to[2], const int from[2], const char *log) {
  int file = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  dup2(to[0], 0);
  dup2(from[1], 1);
  if (file >= 0) dup2(file, 2);
  for (int i = 0; i < 2; i++) {
    close(to[i]);
    close(from[i]);
  }
  if (file > 2) close(file);
  execvp(argv[0], (char *const *)(uintptr_t)argv); /* exec changes nothing in it */
  _exit(127);
}

int bench_child_start(bench_child *c, const char *const *argv, const char *log) {
  int to[2], from[2];
  signal(SIGPIPE, SIG_IGN); /* a write to a dead program fails, no more */
  if (pipe(to)) return 0;
  if (pipe(from)) {
    close(to[0]);
    close(to[1]);
    return 0;
  }
  fflush(NULL);
  c->pid = (int)fork();
  if (c->pid == 0) become(argv, to, from, log);
  close(to[0]);
  close(from[1]);
  c->to = to[1];
  c->from = from[0];
  fcntl(c->to, F_SETFD, FD_CLOEXEC);
  fcntl(c->from, F_SETFD, FD_CLOEXEC);
  if (c->pid < 0) bench_child_stop(c);
  return c->pid > 0;
}

int bench_child_line(bench_child *c, char *line, size_t size, double timeout) {
  const double end = vit_seconds() + timeout;
  size_t n = 0;
  while (n + 1 < size) {
    struct pollfd f = {c->from, POLLIN, 0};
    double left = end - vit_seconds();
    if (left < 0 || poll(&f, 1, (int)(left * 1000) + 1) <= 0) return 0;
    if (read(c->from, line + n, 1) != 1) return 0;
    if (line[n] == '\n') break;
    n++;
  }
  line[n] = '\0';
  return 1;
}

/* Its stdin ends, which should be enough; after two seconds it is killed. */
void bench_child_stop(bench_child *c) {
  const struct timespec moment = {0, 20000000};
  int gone = c->pid <= 0;
  close(c->to);
  close(c->from);
  for (int i = 0; i < 100 && !gone; i++) {
    gone = waitpid((pid_t)c->pid, NULL, WNOHANG) != 0;
    if (!gone) nanosleep(&moment, NULL);
  }
  if (!gone) {
    kill((pid_t)c->pid, SIGKILL);
    waitpid((pid_t)c->pid, NULL, 0);
  }
  c->pid = 0;
}

/* ---- the peers --------------------------------------------------------------- */

enum { RESTARTS = 2, HELLO_SECONDS = 120, OPEN_SECONDS = 240, RUN_SECONDS = 120 };
typedef struct {
  const char *name, *label; /* peers.py's, the table's */
  int off;                  /* missing or failed, and said so */
  int alive, restarts;
  bench_child server;
} peer;
static peer peers[PEERS] = {{NULL, NULL, 1, 0, 0, {0, 0, 0}},
                            {"eager", "PyTorch eager", 0, 0, 0, {0, 0, 0}},
                            {"compile", "PyTorch compile", 0, 0, 0, {0, 0, 0}},
                            {"onnxruntime", "ONNX Runtime", 0, 0, 0, {0, 0, 0}},
                            {"openvino", "OpenVINO", 0, 0, 0, {0, 0, 0}},
                            {"onnxruntime-int8", "ONNX Runtime int8", 0, 0, 0, {0, 0, 0}}};

const char *peers_label(int p) { return peers[p].label; }

static const char *log_path(const peer *p) {
  static char path[300];
  snprintf(path, sizeof path, "%s/peer-%s.log", bench.out, p->name);
  return path;
}

/* Said once for each death. What was open is lost; the next peers_open starts it
   again, but not for ever. */
static void bury(peer *p) {
  bench_child_stop(&p->server);
  p->alive = 0;
  bench_status("");
  printf("  %s ended or did not answer%s; its last words are in %s\n", p->label,
         p->restarts < RESTARTS ? "" : " once too often: it is not started again", log_path(p));
}

static void say(peer *p, const char *command) {
  size_t n = strlen(command);
  if (p->alive && write(p->server.to, command, n) != (ssize_t)n) bury(p);
}

/* 1 and the rest of the answer after "ok", or 0 and what is wrong: nothing when
   the peer is gone. */
static int hear(peer *p, char *answer, size_t size, double timeout) {
  if (p->alive && bench_child_line(&p->server, answer, size, timeout)) {
    int ok = !strncmp(answer, "ok", 2);
    char *rest = answer + (ok ? 2 : strlen("error"));
    memmove(answer, rest + (*rest == ' '), strlen(rest + (*rest == ' ')) + 1);
    return ok;
  }
  if (p->alive) bury(p);
  *answer = '\0';
  return 0;
}

static int ask(peer *p, char *answer, size_t size, double timeout, const char *command) {
  say(p, command);
  return hear(p, answer, size, timeout);
}

static const char *python(void) {
  const char *name = getenv("PYTHON");
  return name && *name ? name : "python3";
}

static void start(peer *p) {
  const char *argv[] = {NULL, "tests/bench/peers.py", NULL, NULL};
  argv[0] = python();
  argv[2] = p->name;
  p->alive = bench_child_start(&p->server, argv, log_path(p));
}

static void end(peer *p) {
  if (p->alive) bench_child_stop(&p->server);
  p->alive = 0;
}

/* Does this Python run at all? */
static int python_runs(void) {
  const char *argv[] = {NULL, "-c", "print(1)", NULL};
  char line[10], log[300];
  bench_child c;
  int runs;
  argv[0] = python();
  snprintf(log, sizeof log, "%s/python.log", bench.out);
  if (!bench_child_start(&c, argv, log)) return 0;
  runs = bench_child_line(&c, line, sizeof line, HELLO_SECONDS) && *line == '1';
  bench_child_stop(&c);
  return runs;
}

/* All start at once. Two peers of one library say the same, which is printed once. */
void peers_start(void) {
  char text[300], said[2000] = "";
  if (!python_runs()) {
    bench_fact("  %s does not run, so there are no peers: install Python 3, or set PYTHON.\n",
               python());
    for (int i = 1; i < PEERS; i++) peers[i].off = 1;
    return;
  }
  bench_status("starting %s", python());
  for (int i = 1; i < PEERS; i++) {
    peers[i].off |= bench.quick && i == PEER_COMPILE; /* half a minute for each model */
    if (!peers[i].off) start(peers + i), say(peers + i, "hello\n");
  }
  for (int i = 1; i < PEERS; i++) {
    if (peers[i].off) continue;
    peers[i].off = !hear(peers + i, text, sizeof text, HELLO_SECONDS);
    if (peers[i].off) end(peers + i);
    if (!*text || strstr(said, text)) continue;
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", text);
    bench_fact(peers[i].off ? "  %s\n" : "  peer         %s\n", text);
  }
}

void peers_stop(void) {
  for (int i = 1; i < PEERS; i++) end(peers + i);
}

static void switch_off(peer *p, const char *why) {
  if (!p->alive) return; /* it has been said */
  bench_status("");
  printf("  %s is not measured any further: %s\n", p->label, why);
  p->off = 1;
}

/* The whole config goes there, so that both sides build the same model. */
static void describe(char *text, size_t size, const vit_config *config, int batch) {
  vit_config c = *config;
  const char *name, *meaning;
  double value;
  bench_try(vit_config_resolve(&c));
  snprintf(text, size, "batch=%d parameters=%lu", batch, (unsigned long)vit_parameter_count(&c));
  for (int i = 0; vit_config_field(&c, i, &name, &meaning, &value); i++)
    snprintf(text + strlen(text), size - strlen(text), " %s=%.9g", name, value);
}

int peers_open(int i, const char *job, const char *what, const vit_config *c, int batch,
               const char *threads, const char *extra) {
  char text[2000], command[2400], answer[500];
  peer *p = peers + i;
  if (p->off) return 0;
  if (!p->alive && p->restarts++ < RESTARTS) start(p);
  bench_status("%s builds %s", p->label, what);
  describe(text, sizeof text, c, batch);
  snprintf(command, sizeof command, "open %s threads=%s %s %s\n", job, threads, text, extra);
  if (ask(p, answer, sizeof answer, OPEN_SECONDS, command)) return 1;
  switch_off(p, answer);
  return 0;
}

double peers_run(int i, double seconds, int threads) {
  char command[100], answer[500];
  double spent = 0;
  peer *p = peers + i;
  snprintf(command, sizeof command, "run %g %d\n", seconds, threads);
  if (!p->alive || p->off) return -1;
  if (ask(p, answer, sizeof answer, RUN_SECONDS, command)) spent = strtod(answer, NULL);
  if (spent > 0) return spent;
  switch_off(p, answer);
  return -1;
}

void peers_close(void) {
  char answer[500];
  for (int i = 1; i < PEERS; i++)
    if (peers[i].alive && !peers[i].off)
      ask(peers + i, answer, sizeof answer, RUN_SECONDS, "close\n");
}

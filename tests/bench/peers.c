/* Talks with peers.py: one line there, one line back. Whatever goes wrong on the
   other side, the benchmark goes on without it. */
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

/* ---- the server ------------------------------------------------------------ */

enum { PEERS = 3, RESTARTS = 2, OPEN_SECONDS = 240, RUN_SECONDS = 120 };
static struct {
  const char *name, *label;
  int off; /* missing or failed, and said so */
} peers[PEERS] = {{"eager", "PyTorch eager", 0},
                  {"compile", "PyTorch compile", 0},
                  {"onnxruntime", "ONNX Runtime", 0}};
static bench_child server;
static int alive = 0, restarts = 0;
static char log_path[300];

static int peer_index(const char *name) {
  int i = 0;
  while (i < PEERS - 1 && strcmp(peers[i].name, name)) i++;
  return i;
}

const char *peers_label(const char *peer) { return peers[peer_index(peer)].label; }

/* Said once for each death. What was open is lost; the next peers_open starts the
   server again, but not for ever. */
static void bury_server(void) {
  bench_child_stop(&server);
  alive = 0;
  bench_status("");
  printf("  peers.py ended or did not answer%s; its last words are in %s\n",
         restarts < RESTARTS ? "" : " once too often: it is not started again", log_path);
}

/* 1 and the rest of the answer after "ok", or 0 and what is wrong: nothing when
   the server is gone. */
static int ask(char *answer, size_t size, double timeout, const char *command) {
  size_t n = strlen(command);
  if (alive && write(server.to, command, n) == (ssize_t)n &&
      bench_child_line(&server, answer, size, timeout)) {
    int ok = !strncmp(answer, "ok", 2);
    char *rest = answer + (ok ? 2 : strlen("error"));
    memmove(answer, rest + (*rest == ' '), strlen(rest + (*rest == ' ')) + 1);
    return ok;
  }
  if (alive) bury_server();
  *answer = '\0';
  return 0;
}

static const char *python(void) {
  const char *name = getenv("PYTHON");
  return name && *name ? name : "python3";
}

static int start_server(char *versions, size_t size) {
  const char *argv[] = {NULL, "tests/bench/peers.py", NULL}, *hello = "versions\n";
  argv[0] = python();
  snprintf(log_path, sizeof log_path, "%s/peers.log", bench.out);
  alive = bench_child_start(&server, argv, log_path);
  if (alive && write(server.to, hello, strlen(hello)) == (ssize_t)strlen(hello) &&
      bench_child_line(&server, versions, size, 60) && !strncmp(versions, "ok", 2)) {
    memmove(versions, versions + 2, strlen(versions + 2) + 1);
    return 1;
  }
  if (alive) bench_child_stop(&server);
  return alive = 0;
}

void peers_start(void) {
  char v[200];
  bench_status("starting %s", python());
  if (!start_server(v, sizeof v)) {
    bench_status("");
    printf("  %s does not run peers.py: no PyTorch, no ONNX Runtime. Install Python 3, or set "
           "PYTHON.\n", python());
    for (int i = 0; i < PEERS; i++) peers[i].off = 1;
    return;
  }
  bench_status("");
  if (*v) printf("  peers       %s\n", v);
  if (!strstr(v, "torch=")) {
    printf("  PyTorch is missing, so it and ONNX Runtime are not measured: pip install torch\n");
    for (int i = 0; i < PEERS; i++) peers[i].off = 1;
  } else if (!strstr(v, "onnxruntime=")) {
    printf("  ONNX Runtime is missing: pip install onnxruntime onnx onnxscript\n");
    peers[peer_index("onnxruntime")].off = 1;
  }
}

void peers_stop(void) {
  if (alive) bench_child_stop(&server);
  alive = 0;
}

static void switch_off(const char *peer, const char *why) {
  if (!alive) return; /* not the fault of this one; it has been said */
  bench_status("");
  printf("  %s is not measured any further: %s\n", peers_label(peer), why);
  peers[peer_index(peer)].off = 1;
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

int peers_open(const char *peer, const char *job, const char *what, const vit_config *c,
               int batch, const char *threads, const char *extra) {
  char text[2000], command[2400], answer[500];
  if (peers[peer_index(peer)].off) return 0;
  if (!alive && restarts++ < RESTARTS) start_server(answer, sizeof answer);
  bench_status("%s builds %s", peers_label(peer), what);
  describe(text, sizeof text, c, batch);
  snprintf(command, sizeof command, "open %s %s threads=%s %s %s\n", peer, job, threads, text,
           extra);
  if (ask(answer, sizeof answer, OPEN_SECONDS, command)) return 1;
  switch_off(peer, answer);
  return 0;
}

double peers_run(const char *peer, double seconds, int threads) {
  char command[100], answer[500];
  double spent = 0;
  snprintf(command, sizeof command, "run %s %g %d\n", peer, seconds, threads);
  if (!alive || peers[peer_index(peer)].off) return -1;
  if (ask(answer, sizeof answer, RUN_SECONDS, command)) spent = strtod(answer, NULL);
  if (spent > 0) return spent;
  switch_off(peer, answer);
  return -1;
}

void peers_close(void) {
  char answer[500];
  if (alive) ask(answer, sizeof answer, RUN_SECONDS, "close\n");
}

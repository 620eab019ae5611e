/* A pool of threads that splits tasks into fixed ranges.
 *
 * Chunk k of a step belongs to worker k (slot k), chunk 0 to the caller. A chunk goes FREE -> POSTED (caller) -> TAKEN
 * (by whoever wins: its worker, or the caller when it has nothing else left to do and the worker hasn't woken up) ->
 * DONE. So a worker that the system doesn't schedule never holds up a run, and the split, hence every bit, is the same
 * whoever takes a chunk. Waiting spins a bounded while, since the next step usually comes within microseconds, then
 * sleeps.
 *
 * Threads that wake up after a while often find themselves two on a core beside an idle one, and the system takes
 * milliseconds to part them. Where the pool has a thread for every core, each sleeper is therefore woken on a core of
 * its own; once it runs it may go wherever it was allowed before. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { FREE, POSTED, TAKEN, DONE };
/* SPINS look again at once, YIELDS let others run first; both together some hundred microseconds at most. */
enum { SPINS = 2000, YIELDS = 100, STACK_SIZE = 1 << 20, CACHE_LINE = 128 };

typedef struct worker {
  edgeq_pool *pool;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  uint32_t chunk;
  uint32_t is_asleep; /* atomic */
  uint32_t is_called; /* atomic: work will come soon, spin for it */
  int32_t code;       /* what the work returned */
#if defined(__linux__)
  int is_placed; /* under `mutex`: it was told where to wake up, and `allowed` is where it may run */
  cpu_set_t allowed;
#endif
  uint8_t gap[CACHE_LINE]; /* keeps `state`, which two threads poll, off the others' cache lines */
  uint32_t state;          /* atomic */
  uint8_t tail[CACHE_LINE - sizeof(uint32_t)];
} worker;

struct edgeq_pool {
  uint32_t threads;    /* the caller's included */
  uint32_t is_ending;  /* atomic */
  uint32_t is_waiting; /* atomic: the caller sleeps until a chunk is done */
  pthread_mutex_t run_mutex;
  pthread_mutex_t done_mutex;
  pthread_cond_t done;
  /* What is running; written only while no chunk is posted or taken. */
  edgeq_pool_work *work;
  const void *job;
  uint32_t tasks, chunks;
  worker *workers; /* [threads - 1]; worker i runs chunk i + 1 */
};

static void relax(void) {
#if defined(__x86_64__)
  __asm__ volatile("pause");
#elif defined(__aarch64__)
  __asm__ volatile("isb"); /* `yield` is a plain no-op on most cores and returns too soon */
#endif
}

/* Before the look number `look`, from 1 on, at what another thread is to change; 0 when it is time to sleep. A thread
 * that sleeps too soon is woken by one that goes on computing, often on the very same core. */
static int linger(int look) {
  if (look > SPINS + YIELDS) {
    return 0;
  }
  if (look > SPINS) {
    sched_yield();
  }
  relax();
  return 1;
}

static int32_t run_chunk(const edgeq_pool *pool, uint32_t chunk) {
  const int32_t begin = (int32_t)((uint64_t)pool->tasks * chunk / pool->chunks);
  const int32_t end = (int32_t)((uint64_t)pool->tasks * (chunk + 1) / pool->chunks);
  return pool->work(pool->job, begin, end, (int32_t)chunk);
}

/* 1 when the chunk was posted and is now this thread's. */
static int take(worker *w) {
  uint32_t expected = POSTED;
  return __atomic_compare_exchange_n(&w->state, &expected, TAKEN, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* ---- where a sleeper wakes up ---- */

#if defined(__linux__)

/* The CPU for `w`: the one with its number among those it may use but `avoided`; -1 where there aren't as many as
 * threads, or more: then the system knows better. */
static int cpu_for(const worker *w, int avoided) {
  if (CPU_COUNT(&w->allowed) != (int)w->pool->threads || avoided < 0 || !CPU_ISSET((size_t)avoided, &w->allowed)) {
    return -1;
  }
  uint32_t number = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (cpu != avoided && CPU_ISSET((size_t)cpu, &w->allowed) && ++number == w->chunk) {
      return cpu;
    }
  }
  return -1;
}

/* Lets a sleeping worker wake up on a core that neither the caller nor another worker has. Under its mutex. */
static void place(worker *w) {
  if (w->is_placed || pthread_getaffinity_np(w->thread, sizeof w->allowed, &w->allowed) != 0) {
    return;
  }
  const int cpu = cpu_for(w, sched_getcpu());
  if (cpu >= 0) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET((size_t)cpu, &only);
    w->is_placed = pthread_setaffinity_np(w->thread, sizeof only, &only) == 0;
  }
}

/* It runs: from here on the system may move it again. Under its mutex. */
static void unplace(worker *w) {
  if (w->is_placed) {
    pthread_setaffinity_np(w->thread, sizeof w->allowed, &w->allowed);
    w->is_placed = 0;
  }
}

#else

static void place(worker *w) {
  (void)w;
}

static void unplace(worker *w) {
  (void)w;
}

#endif

/* ---- workers ---- */

static int has_news(worker *w) {
  return __atomic_load_n(&w->state, __ATOMIC_SEQ_CST) == POSTED ||
         __atomic_load_n(&w->pool->is_ending, __ATOMIC_SEQ_CST);
}

static void wait_for_news(worker *w) {
  __atomic_store_n(&w->is_called, 0, __ATOMIC_SEQ_CST);
  for (int look = 1; linger(look); look++) {
    if (has_news(w)) {
      return;
    }
  }
  /* is_asleep before the last look at `state`; the caller does it the other way round: one of the two sees the other.
   */
  pthread_mutex_lock(&w->mutex);
  __atomic_store_n(&w->is_asleep, 1, __ATOMIC_SEQ_CST);
  while (!has_news(w) && !__atomic_load_n(&w->is_called, __ATOMIC_SEQ_CST)) {
    pthread_cond_wait(&w->wake, &w->mutex);
  }
  __atomic_store_n(&w->is_asleep, 0, __ATOMIC_SEQ_CST);
  unplace(w);
  pthread_mutex_unlock(&w->mutex);
}

static void *serve(void *argument) {
  worker *w = argument;
  edgeq_pool *pool = w->pool;
  for (;;) {
    wait_for_news(w);
    if (__atomic_load_n(&pool->is_ending, __ATOMIC_SEQ_CST)) {
      return NULL;
    }
    if (!take(w)) {
      continue; /* the caller was faster, or only called */
    }
    w->code = run_chunk(pool, w->chunk);
    __atomic_store_n(&w->state, DONE, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool->is_waiting, __ATOMIC_SEQ_CST)) {
      pthread_mutex_lock(&pool->done_mutex);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->done_mutex);
    }
  }
}

static void wake(worker *w) {
  if (__atomic_load_n(&w->is_asleep, __ATOMIC_SEQ_CST)) {
    pthread_mutex_lock(&w->mutex);
    place(w);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
  }
}

/* ---- the caller ---- */

void edgeq_pool_call(edgeq_pool *pool) {
  for (uint32_t index = 0; index + 1 < pool->threads; index++) {
    worker *w = &pool->workers[index];
    __atomic_store_n(&w->is_called, 1, __ATOMIC_SEQ_CST);
    wake(w);
  }
}

static int is_done(const worker *w) {
  return __atomic_load_n(&w->state, __ATOMIC_SEQ_CST) == DONE;
}

static void wait_until_done(edgeq_pool *pool, const worker *w) {
  for (int look = 1; linger(look); look++) {
    if (is_done(w)) {
      return;
    }
  }
  pthread_mutex_lock(&pool->done_mutex);
  __atomic_store_n(&pool->is_waiting, 1, __ATOMIC_SEQ_CST);
  while (!is_done(w)) {
    pthread_cond_wait(&pool->done, &pool->done_mutex);
  }
  __atomic_store_n(&pool->is_waiting, 0, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&pool->done_mutex);
}

int32_t edgeq_pool_run(edgeq_pool *pool, edgeq_pool_work *work, const void *job, uint32_t tasks, uint32_t chunks) {
  pool->work = work;
  pool->job = job;
  pool->tasks = tasks;
  pool->chunks = chunks;
  for (uint32_t chunk = 1; chunk < chunks; chunk++) {
    __atomic_store_n(&pool->workers[chunk - 1].state, POSTED, __ATOMIC_SEQ_CST);
    wake(&pool->workers[chunk - 1]);
  }
  int32_t code = run_chunk(pool, 0);
  /* From the last to the first: those were posted last, so their workers are the likeliest to be late. */
  for (uint32_t chunk = chunks - 1; chunk >= 1; chunk--) {
    worker *w = &pool->workers[chunk - 1];
    if (take(w)) {
      w->code = run_chunk(pool, chunk);
      __atomic_store_n(&w->state, DONE, __ATOMIC_SEQ_CST);
    }
  }
  for (uint32_t chunk = 1; chunk < chunks; chunk++) {
    worker *w = &pool->workers[chunk - 1];
    wait_until_done(pool, w);
    code = code != 0 ? code : w->code;
    __atomic_store_n(&w->state, FREE, __ATOMIC_SEQ_CST);
  }
  return code;
}

int edgeq_pool_acquire(edgeq_pool *pool) {
  return pthread_mutex_trylock(&pool->run_mutex) == 0;
}

void edgeq_pool_release(edgeq_pool *pool) {
  pthread_mutex_unlock(&pool->run_mutex);
}

uint32_t edgeq_pool_threads(const edgeq_pool *pool) {
  return pool->threads;
}

/* ---- life ---- */

/* Signals are the application's: no handler of it runs on a worker's small stack. */
static int start(worker *w) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) {
    return 0;
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int good =
      pthread_attr_setstacksize(&attributes, STACK_SIZE) == 0 && pthread_create(&w->thread, &attributes, serve, w) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return good;
}

edgeq_status edgeq_pool_create(edgeq_pool **pool, uint32_t threads) {
  if (pool == NULL || threads == 0 || threads > EDGEQ_MAX_THREADS) {
    return EDGEQ_ERROR_ARGUMENT;
  }
  *pool = NULL;
  edgeq_pool *made = calloc(1, sizeof *made);
  worker *workers = calloc(threads, sizeof *workers);
  if (made == NULL || workers == NULL) {
    free(made);
    free(workers);
    return EDGEQ_ERROR_MEMORY;
  }
  made->threads = 1;
  made->workers = workers;
  pthread_mutex_init(&made->run_mutex, NULL);
  pthread_mutex_init(&made->done_mutex, NULL);
  pthread_cond_init(&made->done, NULL);
  for (uint32_t index = 0; index + 1 < threads; index++) {
    worker *w = &workers[index];
    w->pool = made;
    w->chunk = index + 1;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    if (!start(w)) {
      pthread_mutex_destroy(&w->mutex);
      pthread_cond_destroy(&w->wake);
      edgeq_pool_free(made);
      return EDGEQ_ERROR_MEMORY;
    }
    made->threads++;
  }
  *pool = made;
  return EDGEQ_OK;
}

void edgeq_pool_free(edgeq_pool *pool) {
  if (pool == NULL) {
    return;
  }
  __atomic_store_n(&pool->is_ending, 1, __ATOMIC_SEQ_CST);
  for (uint32_t index = 0; index + 1 < pool->threads; index++) {
    worker *w = &pool->workers[index];
    wake(w);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->wake);
  }
  pthread_cond_destroy(&pool->done);
  pthread_mutex_destroy(&pool->done_mutex);
  pthread_mutex_destroy(&pool->run_mutex);
  free(pool->workers);
  free(pool);
}

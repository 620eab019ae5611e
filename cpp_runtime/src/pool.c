/* A pool of threads that splits a step's tasks into fixed ranges.
 *
 * Chunk k of a step belongs to worker k (slot k), chunk 0 to the caller. A chunk goes FREE -> POSTED (caller) -> TAKEN
 * (by whoever wins: its worker, or the caller when it has nothing else left to do and the worker hasn't woken up) ->
 * DONE. So a worker that the system doesn't schedule never holds up a run, and the split, hence every bit, is the same
 * whoever takes a chunk. Waiting spins a bounded while, since the next step usually comes within microseconds, then
 * sleeps. */
#if !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1
#endif
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { FREE, POSTED, TAKEN, DONE };
enum { SPINS = 2000, STACK_SIZE = 1 << 20, CACHE_LINE = 128 };

typedef struct worker {
  edgeq_pool *pool;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  uint32_t chunk;
  uint32_t is_asleep;      /* atomic */
  int32_t code;            /* what the step returned */
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
  /* The step that is running; written only while no chunk is posted or taken. */
  const edgeq_model *model;
  uint8_t *arena;
  uint32_t step, tasks, chunks;
  worker *workers; /* [threads - 1]; worker i runs chunk i + 1 */
};

static void relax(void) {
#if defined(__x86_64__)
  __asm__ volatile("pause");
#elif defined(__aarch64__)
  __asm__ volatile("isb"); /* `yield` is a plain no-op on most cores and returns too soon */
#endif
}

static int32_t run_chunk(const edgeq_pool *pool, uint32_t chunk) {
  const int32_t begin = (int32_t)((uint64_t)pool->tasks * chunk / pool->chunks);
  const int32_t end = (int32_t)((uint64_t)pool->tasks * (chunk + 1) / pool->chunks);
  return pool->model->step((int32_t)pool->step, begin, end, (int32_t)chunk, pool->arena, pool->model->weights);
}

/* 1 when the chunk was posted and is now this thread's. */
static int take(worker *w) {
  uint32_t expected = POSTED;
  return __atomic_compare_exchange_n(&w->state, &expected, TAKEN, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* ---- workers ---- */

static int has_news(worker *w) {
  return __atomic_load_n(&w->state, __ATOMIC_SEQ_CST) == POSTED ||
         __atomic_load_n(&w->pool->is_ending, __ATOMIC_SEQ_CST);
}

static void wait_for_news(worker *w) {
  for (int spin = 0; spin < SPINS; spin++) {
    if (has_news(w)) {
      return;
    }
    relax();
  }
  /* is_asleep before the last look at `state`; the caller does it the other way round: one of the two sees the other.
   */
  pthread_mutex_lock(&w->mutex);
  __atomic_store_n(&w->is_asleep, 1, __ATOMIC_SEQ_CST);
  while (!has_news(w)) {
    pthread_cond_wait(&w->wake, &w->mutex);
  }
  __atomic_store_n(&w->is_asleep, 0, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&w->mutex);
}

static void *work(void *argument) {
  worker *w = argument;
  edgeq_pool *pool = w->pool;
  for (;;) {
    wait_for_news(w);
    if (__atomic_load_n(&pool->is_ending, __ATOMIC_SEQ_CST)) {
      return NULL;
    }
    if (!take(w)) {
      continue; /* the caller was faster */
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
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
  }
}

/* ---- the caller ---- */

static int is_done(const worker *w) {
  return __atomic_load_n(&w->state, __ATOMIC_SEQ_CST) == DONE;
}

static void wait_until_done(edgeq_pool *pool, const worker *w) {
  for (int spin = 0; spin < SPINS; spin++) {
    if (is_done(w)) {
      return;
    }
    relax();
  }
  pthread_mutex_lock(&pool->done_mutex);
  __atomic_store_n(&pool->is_waiting, 1, __ATOMIC_SEQ_CST);
  while (!is_done(w)) {
    pthread_cond_wait(&pool->done, &pool->done_mutex);
  }
  __atomic_store_n(&pool->is_waiting, 0, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&pool->done_mutex);
}

int32_t edgeq_pool_run(edgeq_pool *pool, const edgeq_model *model, uint8_t *arena, uint32_t step, uint32_t tasks,
                       uint32_t chunks) {
  pool->model = model;
  pool->arena = arena;
  pool->step = step;
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
      pthread_attr_setstacksize(&attributes, STACK_SIZE) == 0 && pthread_create(&w->thread, &attributes, work, w) == 0;
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

/*
 * Looks after a switch whose process has died: what it left half done is restored, or completed where
 * `switched` is in the journal, the endpoint included, so that no pooler stays paused until somebody
 * comes. Gates alone are restored within a second by run/gates.h, whatever becomes of this.
 *
 * In a thread with connections of its own: a pooler that does not answer, a name that has to leave the
 * caches, a command of the user's take their time, and the engine has none. It does what
 * `cutover --abort` does: the lock, the epoch, the journal. Where it cannot, it says so and tries again,
 * ever more seldom; nothing else stops for it. Nor does it meddle where its portage.yaml names another
 * kind of endpoint than the switch had: it could not lead the application, and must not say that it did.
 *
 * The engine's thread calls; it must call settler_end() after the stop is requested.
 */
#ifndef RUN_SETTLER_H
#define RUN_SETTLER_H

#include <pthread.h>
#include <stdatomic.h>

#include "run/migration.h"
#include "util/stop.h"

struct settler {
    const struct migration *migration; /* its configuration and mappings; they outlive the thread */
    struct stop *stop;
    int64_t look_again_us, wait_us;
    char verb[16];  /* of the switch that was left */
    char told[1024]; /* the last trouble, said once */
    bool runs, told_endpoint;
    bool failed; /* the thread's, read when it is done */
    atomic_bool done;
    pthread_t thread;
};

void settler_init(struct settler *settler, const struct migration *migration, struct stop *stop);

/* Looks once a second, with a query on control, and begins the work when there is some. */
bool settler_tend(struct settler *settler, PGconn *control, struct error *err) MUST_CHECK;

void settler_end(struct settler *settler);

#endif

/*
 * Looks after a switch whose process has died: what it left half done is restored, or completed where
 * `switched` is in the journal, the endpoint included, so that no closed side and no paused pooler stay
 * until somebody comes.
 *
 * A thread that lives as long as an incarnation, preparation included, whichever stage it is in: what it
 * looks after has died at any time, and preparing, copying and building may take hours. Each second it asks
 * control alone, so that it is none of the source's connections while there is nothing to do. When there is:
 * 1. the gates are made to agree with the journal, which needs neither mappings nor endpoint;
 * 2. then it does what `cutover --abort` does: the lock, the epoch, the journal, the endpoint.
 * Where it cannot, it says so and tries again, ever more seldom; nothing else stops for it. Nor does it
 * meddle with the endpoint where its portage.yaml names another kind than the switch had: it could not lead
 * the application, and must not say that it did.
 */
#ifndef RUN_SETTLER_H
#define RUN_SETTLER_H

#include "mapping/config.h"

struct settler;

/* The schema portage is on all servers. It looks once at least, however soon it ends. */
struct settler *settler_start(const struct config *config);

void settler_end(struct settler *settler); /* NULL is fine */

#endif

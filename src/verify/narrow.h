/*
 * What is compared once the target has been live: of a column that the mapping fills with a constant the
 * source knows nothing, and the application may have written there what it likes. It is no difference,
 * and goes on being none after a rollback. Constants that tell the parts of a merge apart are compared.
 */
#ifndef VERIFY_NARROW_H
#define VERIFY_NARROW_H

#include "mapping/mapping.h"

/* The mapping itself, or a copy without these columns, by the arena. */
const struct mapping *narrow(const struct mapping *mapping, struct arena *arena);

#endif

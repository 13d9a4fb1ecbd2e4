/*
 * Whether a target column keeps all of what its source column holds, so that the inverse brings each
 * value back exactly. Decided from the types alone, and carefully: yes means yes, no means that some
 * value may be rounded, cut or refused, or that nothing gives it back.
 */
#ifndef MAPPING_LOSSLESS_H
#define MAPPING_LOSSLESS_H

#include "mapping/select.h"

/* `source` is the item's one column, NULL when it uses none or several. */
bool item_is_lossless(const struct select_item *item, const struct column *source,
                      const struct column *target);

#endif

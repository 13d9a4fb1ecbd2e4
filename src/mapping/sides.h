/* The two sides of a migration, wherever one of them is meant: which takes the application's writes,
 * where a pooler leads, which way a switch goes. */
#ifndef MAPPING_SIDES_H
#define MAPPING_SIDES_H

enum which_side { SIDE_SOURCE, SIDE_TARGET, SIDES };

/* "source", "target": as in portage.setting, in the journal and in messages. */
static inline const char *side_name(enum which_side which)
{
    return which == SIDE_SOURCE ? "source" : "target";
}

static inline enum which_side side_other(enum which_side which)
{
    return which == SIDE_SOURCE ? SIDE_TARGET : SIDE_SOURCE;
}

#endif

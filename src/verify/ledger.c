#include "verify/ledger.h"

#include <stdlib.h>

#include "util/check.h"

void compared_add(struct compared *sum, const struct compared *more)
{
    sum->source_rows += more->source_rows;
    sum->target_rows += more->target_rows;
    sum->bytes += more->bytes;
}

void ledger_init(struct ledger *ledger, const char *const *cursor, bool complete,
                 const struct compared *settled)
{
    *ledger = (struct ledger){.cursor = cursor, .complete = complete, .settled = *settled};
    ledger->last = &ledger->first;
}

static void remove_first(struct ledger *ledger)
{
    struct ledger_interval *first = ledger->first;
    ledger->first = first->next;
    if (ledger->first == NULL)
        ledger->last = &ledger->first;
    free(first);
}

void ledger_release(struct ledger *ledger)
{
    while (ledger->first != NULL)
        remove_first(ledger);
}

struct ledger_interval *ledger_give(struct ledger *ledger, const char *const *upper)
{
    struct ledger_interval *interval = check_calloc(1, sizeof *interval);
    interval->upper = upper;
    *ledger->last = interval;
    ledger->last = &interval->next;
    return interval;
}

void ledger_end(struct ledger *ledger, struct ledger_interval *interval,
                const struct compared *compared)
{
    CHECK(!interval->ended);
    interval->ended = true;
    interval->compared = *compared;
    while (ledger->first != NULL && ledger->first->ended) {
        compared_add(&ledger->settled, &ledger->first->compared);
        ledger->cursor = ledger->first->upper;
        ledger->complete = ledger->first->upper == NULL;
        remove_first(ledger);
    }
}

#include "verify/suspects.h"

#include <uthash.h>
#include <xxhash.h>

/* By a hash of mapping and key; two keys of one hash are kept both. */
struct suspect_index {
    uint64_t hash;
    struct suspect suspect;
    UT_hash_handle hh;
};

void suspects_init(struct suspects *suspects)
{
    *suspects = (struct suspects){0};
    suspects->last = &suspects->first;
    pthread_mutex_init(&suspects->lock, NULL);
}

void suspects_release(struct suspects *suspects)
{
    struct suspect_index *index, *next;
    HASH_ITER (hh, suspects->by_key, index, next) {
        HASH_DEL(suspects->by_key, index);
        buffer_release(&index->suspect.key);
        free(index->suspect.evidence);
        free(index);
    }
    pthread_mutex_destroy(&suspects->lock);
}

static bool is_same(const struct suspect *suspect, const struct mapping *mapping, const char *key,
                    size_t key_length)
{
    return suspect->mapping == mapping && suspect->key.length == key_length &&
           memcmp(buffer_text(&suspect->key), key, key_length) == 0;
}

static void add(struct suspects *suspects, const struct mapping *mapping, const char *key,
                size_t key_length)
{
    struct suspect_index *found;
    uint64_t hash = XXH3_64bits_withSeed(key, key_length, mapping->index);
    HASH_FIND(hh, suspects->by_key, &hash, sizeof hash, found);
    while (found != NULL && !is_same(&found->suspect, mapping, key, key_length)) {
        hash++;
        HASH_FIND(hh, suspects->by_key, &hash, sizeof hash, found);
    }
    if (found != NULL)
        return;
    if (suspects->count == SUSPECTS_MAX || suspects->bytes + key_length > SUSPECT_BYTES_MAX) {
        suspects->not_kept++;
        return;
    }
    found = check_calloc(1, sizeof *found);
    found->hash = hash;
    found->suspect.mapping = mapping;
    buffer_init(&found->suspect.key, key_length + 1);
    buffer_append(&found->suspect.key, key, key_length);
    HASH_ADD(hh, suspects->by_key, hash, sizeof found->hash, found);
    *suspects->last = &found->suspect;
    suspects->last = &found->suspect.next;
    suspects->last_added = &found->suspect;
    suspects->count++;
    suspects->bytes += key_length;
}

void suspects_add(struct suspects *suspects, const struct mapping *mapping, const char *key,
                  size_t key_length)
{
    pthread_mutex_lock(&suspects->lock);
    add(suspects, mapping, key, key_length);
    pthread_mutex_unlock(&suspects->lock);
}

const struct suspect *suspects_last(struct suspects *suspects)
{
    pthread_mutex_lock(&suspects->lock);
    const struct suspect *last = suspects->last_added;
    pthread_mutex_unlock(&suspects->lock);
    return last;
}

const struct suspect *suspects_after(struct suspects *suspects, const struct suspect *suspect)
{
    pthread_mutex_lock(&suspects->lock);
    const struct suspect *next = suspect != NULL ? suspect->next : suspects->first;
    pthread_mutex_unlock(&suspects->lock);
    return next;
}

uint64_t suspects_not_kept(struct suspects *suspects)
{
    pthread_mutex_lock(&suspects->lock);
    uint64_t count = suspects->not_kept;
    pthread_mutex_unlock(&suspects->lock);
    return count;
}

void suspects_return(struct suspects *suspects, struct suspect *suspect)
{
    suspect->next = NULL;
    *suspects->last = suspect;
    suspects->last = &suspect->next;
}

void suspects_return_first(struct suspects *suspects, struct suspect *suspect)
{
    if (suspects->first == NULL)
        suspects->last = &suspect->next;
    suspect->next = suspects->first;
    suspects->first = suspect;
}

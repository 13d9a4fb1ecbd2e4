/*
 * A main() for compilers without libFuzzer: with file names it gives those to the target, one by
 * one, as libFuzzer does with a crash it has found; without, it mutates the target's valid inputs for
 * FUZZ_SECONDS (2), from FUZZ_SEED (a constant), so that the same run can be had again.
 */
#include <inttypes.h>

#include "fuzz.h"
#include "samples.h"
#include "util/clock.h"

enum { SEEDS_MAX = 64, INPUT_MAX = 1 << 16, FILE_BYTES_MAX = 1 << 20 };

static uint64_t random_state;

/* xorshift64*: small, and the same everywhere. */
static uint64_t random_next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

static size_t random_below(size_t limit)
{
    return limit == 0 ? 0 : (size_t)(random_next() >> 11) % limit;
}

/* Replaces `removed` bytes at `at` with others. */
static void splice(struct buffer *input, size_t at, size_t removed, const char *bytes,
                   size_t length)
{
    struct buffer made;
    buffer_init(&made, INPUT_MAX);
    buffer_append(&made, buffer_text(input), at);
    buffer_append(&made, bytes, length);
    buffer_append(&made, buffer_text(input) + at + removed, input->length - at - removed);
    if (buffer_failed(&made)) {
        buffer_release(&made);
        return;
    }
    buffer_release(input);
    *input = made;
}

/* A number where a length or a count may stand, from those that parsers stumble over. */
static void write_number(struct buffer *input, size_t at)
{
    static const uint32_t numbers[] = {0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x100, 1664, 1665, 0x7FFF,
                                       0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
                                       0xFFFFFFFE, 0xFFFFFFFF};
    const size_t widths[] = {1, 2, 4};
    struct buffer bytes;
    size_t width = widths[random_below(3)], left = input->length - at;
    buffer_init(&bytes, 4);
    put_uint(&bytes, numbers[random_below(sizeof numbers / sizeof numbers[0])], width);
    splice(input, at, width < left ? width : left, buffer_text(&bytes), width);
    buffer_release(&bytes);
}

static void insert_bytes(struct buffer *input, size_t at)
{
    char bytes[16];
    size_t length = 1 + random_below(sizeof bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)random_next();
    splice(input, at, 0, bytes, length);
}

/* A piece of another seed, or of itself, in place of some bytes. */
static void copy_piece(struct buffer *input, size_t at, const struct buffer *other)
{
    size_t from = random_below(other->length + 1);
    size_t length = random_below(other->length - from + 1);
    size_t removed = random_below(input->length - at + 1);
    char *piece = exact_copy(buffer_text(other) + from, length);
    splice(input, at, random_below(2) == 0 ? removed : 0, piece, length);
    free(piece);
}

static void mutate(struct buffer *input, const struct buffer *other)
{
    size_t at = random_below(input->length + 1);
    size_t left = input->length - at;
    switch (random_below(7)) {
    case 0:
        if (left > 0)
            input->bytes[at] = (char)(input->bytes[at] ^ 1 << random_below(8));
        break;
    case 1:
        if (left > 0)
            input->bytes[at] = (char)random_next();
        break;
    case 2: /* cut */
        splice(input, at, left, "", 0);
        break;
    case 3:
        splice(input, at, random_below(left + 1), "", 0);
        break;
    case 4:
        insert_bytes(input, at);
        break;
    case 5:
        write_number(input, at);
        break;
    default:
        copy_piece(input, at, other);
    }
}

static void run_input(const struct buffer *input)
{
    char *bytes = exact_copy(buffer_text(input), input->length);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)bytes, input->length);
    free(bytes);
}

static void run_mutant(const struct buffer *seeds, unsigned count)
{
    struct buffer input;
    const struct buffer *seed = &seeds[random_below(count)];
    buffer_init(&input, INPUT_MAX);
    buffer_append(&input, buffer_text(seed), seed->length);
    for (size_t left = 1 + random_below(4); left > 0; left--)
        mutate(&input, &seeds[random_below(count)]);
    run_input(&input);
    buffer_release(&input);
}

static uint64_t setting(const char *name, uint64_t preset)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : preset;
}

static int run_loop(void)
{
    struct buffer seeds[SEEDS_MAX];
    unsigned count = 0;
    uint64_t seed = setting("FUZZ_SEED", 20240229), runs = 0;
    int64_t end = clock_monotonic_us() + (int64_t)setting("FUZZ_SECONDS", 2) * 1000000;
    random_state = seed != 0 ? seed : 1;
    for (buffer_init(&seeds[0], INPUT_MAX); fuzz_seed(count, &seeds[count]);
         buffer_init(&seeds[count], INPUT_MAX)) {
        run_input(&seeds[count++]);
        CHECK(count < SEEDS_MAX);
    }
    while (runs % 256 != 0 || clock_monotonic_us() < end) {
        run_mutant(seeds, count);
        runs++;
    }
    printf("FUZZ_SEED=%" PRIu64 ": %u seeds, %" PRIu64 " mutants\n", seed, count, runs);
    for (unsigned s = 0; s < count; s++)
        buffer_release(&seeds[s]);
    return 0;
}

static int run_file(const char *path)
{
    struct buffer input;
    char block[4096];
    size_t got;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    buffer_init(&input, FILE_BYTES_MAX);
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        buffer_append(&input, block, got);
    fclose(file);
    run_input(&input);
    buffer_release(&input);
    return 0;
}

int main(int count, char **arguments)
{
    int status = 0;
    if (count < 2)
        return run_loop();
    for (int a = 1; a < count; a++)
        status |= run_file(arguments[a]);
    return status;
}

/* A text of portage.yaml and its place in the file. */
#ifndef MAPPING_CONFIG_TEXT_H
#define MAPPING_CONFIG_TEXT_H

#include <stdbool.h>

/* Where a text stands; line and column from 1. For a block scalar, `line` is the first line of its
 * content and `column` its indentation + 1, so that an offset in the text can be turned into a place
 * (config_place). */
struct config_text {
    const char *text; /* NULL when it was left out */
    int line;
    int column;
    bool block; /* the content starts at (line, column), each of its lines at the same column */
};

#endif

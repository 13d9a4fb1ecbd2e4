/* Functions that have no safe use here. Included by util/check.h, so everywhere. */
#ifndef UTIL_BANNED_H
#define UTIL_BANNED_H

#pragma GCC poison sprintf vsprintf strcpy strcat strncpy strncat gets atoi atol atoll strtok

#endif

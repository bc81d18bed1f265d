#include "words.h"
#include <ctype.h>

int words_in(const char *line) {
    int count = 0, inside = 0;
    for (; *line; line++) {
        if (isspace((unsigned char)*line))
            inside = 0;
        else if (!inside)
            inside = 1, count++;
    }
    return count;
}

#include <stdio.h>
#include "version.h"
#include "words.h"

int main(void) {
    char line[4096];
    int count = 0;
    while (fgets(line, sizeof line, stdin))
        count += words_in(line);
    printf("words %s: %d\n", VERSION, count);
    return 0;
}

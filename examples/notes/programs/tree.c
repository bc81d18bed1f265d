/* Print a search tree of twelve numbers in the DOT language. */
#include <stdio.h>

int main(void) {
    int number[12], left[12], right[12];
    unsigned seed = 7;
    puts("digraph tree {\n  node [shape=circle, fontname=Helvetica, fixedsize=true];");
    for (int i = 0; i < 12; i++) {
        seed = seed * 1664525u + 1013904223u;
        number[i] = seed >> 16 & 1023;
        left[i] = right[i] = -1;
        printf("  %d [label=%d];\n", i, number[i]);
        for (int at = 0; i > 0;) {
            int *next = number[i] < number[at] ? &left[at] : &right[at];
            if (*next < 0) {
                *next = i;
                printf("  %d -> %d;\n", at, i);
                break;
            }
            at = *next;
        }
    }
    puts("}");
    return 0;
}

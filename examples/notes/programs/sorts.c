/* Print how many comparisons two ways of sorting take: n, insertion sort, merge sort. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long compared;

static int before(unsigned a, unsigned b) {
    compared++;
    return a < b;
}

static void insertion(unsigned *list, int n) {
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && before(list[j], list[j - 1]); j--) {
            unsigned held = list[j];
            list[j] = list[j - 1];
            list[j - 1] = held;
        }
}

static void merge(unsigned *list, unsigned *spare, int n) {
    if (n < 2)
        return;
    int half = n / 2, left = 0, right = half;
    merge(list, spare, half);
    merge(list + half, spare, n - half);
    for (int i = 0; i < n; i++)
        spare[i] = right >= n || (left < half && before(list[left], list[right])) ? list[left++] : list[right++];
    memcpy(list, spare, n * sizeof *list);
}

int main(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 1000;
    unsigned *first = malloc(3 * most * sizeof *first), *second = first + most, seed = 1;
    if (!first)
        return 1;
    puts("n insertion merge");
    for (int n = most / 20; n > 0 && n <= most; n += most / 20) {
        for (int i = 0; i < n; i++)
            first[i] = second[i] = seed = seed * 1664525u + 1013904223u;
        compared = 0;
        insertion(first, n);
        long slow = compared;
        compared = 0;
        merge(second, second + most, n);
        printf("%d %ld %ld\n", n, slow, compared);
    }
    free(first);
    return 0;
}

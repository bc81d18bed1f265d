/* Print how many primes there are up to n, and n / log n. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int is_prime(int n) {
    for (int i = 2; i * i <= n; i++)
        if (n % i == 0)
            return 0;
    return n > 1;
}

int main(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 1000, count = 0;
    puts("n primes n/log(n)");
    for (int n = 2; n <= most; n++) {
        count += is_prime(n);
        if (most < 40 || n % (most / 40) == 0)
            printf("%d %d %.1f\n", n, count, n / log(n));
    }
    return 0;
}

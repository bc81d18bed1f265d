#include "sieve.hpp"
#include <iostream>

int main() { std::cout << primes_below(1000).size() << " primes below 1000\n"; }
